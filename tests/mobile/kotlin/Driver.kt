package studyai

import kotlin.system.exitProcess
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds
import kotlinx.coroutines.*
import kotlinx.coroutines.flow.*
import okhttp3.OkHttpClient
import okio.ByteString.Companion.decodeBase64
import org.json.JSONObject

/** Does what a line of JSON on standard input orders, and writes what happens as such lines. */
fun main(): Unit = runBlocking {
    val order = JSONObject(readln())
    val client = OkHttpClient.Builder().addInterceptor { chain ->
        val token = order.text("token")
        val request = chain.request().newBuilder().apply { if (token != null) header("Authorization", "Bearer $token") }
        chain.proceed(request.build())
    }.build()
    val networkBack = flow { if (order.has("network_back")) emit(Unit) }
    val studyAI = StudyAI(order.getString("url"), order.text("student_id"), order.patience(), networkBack, client)
    launch { carryOut(studyAI, order) }.join()
    tell("over")
    readlnOrNull()
    exitProcess(0)
}

private suspend fun carryOut(studyAI: StudyAI, order: JSONObject) = try {
    when (order.getString("do")) {
        "ask" -> tellAll(studyAI.ask(order.question()), order.text("leave_at"))
        "resume" -> tellAll(studyAI.resume(order.getString("answer_id")), order.text("leave_at"))
        "stop" -> studyAI.stop(order.getString("answer_id"))
        else -> ask(studyAI, order.question())
    }
} catch (error: StudyAIException) {
    tell(
        "failed", "code" to error.code.name, "retryable" to error.retryable, "response" to error.response,
        "retry_after" to error.retryAfter?.inWholeMilliseconds, "request_id" to error.requestId,
        "message" to error.message,
    )
} catch (error: CancellationException) {
    tell("left")
}

private suspend fun tellAll(events: Flow<Event>, leaveAt: String?) = events.collect { event ->
    when (event) {
        is Event.Started -> tell("started", "answer_id" to event.answerId, "session_id" to event.sessionId)
        is Event.Text -> tell("text", "delta" to event.delta, "all" to event.all)
        is Event.Finished ->
            tell("finished", "text" to event.text, "reason" to event.finishReason, "tokens" to event.totalTokens)
    }
    if (event is Event.Text && leaveAt != null && leaveAt in event.all) currentCoroutineContext().cancel()
}

private suspend fun ask(studyAI: StudyAI, question: Question) {
    // As the HTTP guide shows it.
    try {
        studyAI.ask(question).collect { event ->
            when (event) {
                is Event.Started -> show("")
                is Event.Text -> show(event.all)
                is Event.Finished -> keep(event.text)
            }
        }
    } catch (error: StudyAIException) {
        show(error.response ?: sentenceFor(error.code))
        if (error.retryable) offerAgain(question, error.retryAfter)
    }
}

private fun show(text: String) = tell("shown", "text" to text)

private fun keep(text: String) = tell("kept", "text" to text)

private fun sentenceFor(code: Code) = "of $code"

private fun offerAgain(question: Question, after: Duration?) =
    tell("offered", "key" to question.key, "after" to "$after")

private fun tell(what: String, vararg more: Pair<String, Any?>) =
    println(JSONObject(more.toMap().filterValues { it != null }).put("what", what))

private fun JSONObject.text(name: String): String? = optString(name).ifEmpty { null }

private fun JSONObject.question() = Question(
    getString("prompt"), text("image")?.decodeBase64()?.toByteArray(), text("subject"), text("session_id"),
    getString("key"),
)

private fun JSONObject.patience() = Patience(
    getInt("attempts"), getInt("first_delay_ms").milliseconds, getInt("longest_delay_ms").milliseconds,
    getInt("silence_ms").milliseconds,
)
