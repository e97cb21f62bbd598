package studyai

import java.io.IOException
import java.util.UUID
import java.util.concurrent.TimeUnit.MILLISECONDS
import kotlin.random.Random
import kotlin.time.Duration
import kotlin.time.Duration.Companion.milliseconds
import kotlin.time.Duration.Companion.seconds
import kotlinx.coroutines.*
import kotlinx.coroutines.channels.*
import kotlinx.coroutines.flow.*
import okhttp3.*
import okhttp3.HttpUrl.Companion.toHttpUrl
import okhttp3.MediaType.Companion.toMediaType
import okhttp3.RequestBody.Companion.toRequestBody
import okio.BufferedSource
import okio.ByteString.Companion.toByteString
import org.json.JSONException
import org.json.JSONObject

/** What a student asks. The key names it: to try again, ask the same question, or one with the same key. */
class Question(
    val prompt: String,
    /** A JPEG, PNG, WebP or GIF; null where the session has a picture. */
    val image: ByteArray? = null,
    val subject: String? = null,
    val sessionId: String? = null,
    val key: String = UUID.randomUUID().toString(),
)

sealed interface Event {
    /** Comes again where the service has lost the answer and another begins: what came before is no part of it. */
    data class Started(val answerId: String, val model: String, val sessionId: String?) : Event

    /** More text, and all of it so far. */
    data class Text(val delta: String, val all: String) : Event

    /** The answer is whole. [finishReason] is `stop`, `length`, `content_filter` or `stopped`. */
    data class Finished(val text: String, val finishReason: String, val totalTokens: Int) : Event
}

/** The service's codes; from CONNECTION_FAILED on the client's own. UNKNOWN stands for those of a newer service. */
enum class Code {
    INVALID_REQUEST, IMAGE_UNREADABLE, PAYLOAD_TOO_LARGE, IDEMPOTENCY_KEY_REUSED, UNAUTHENTICATED, FORBIDDEN,
    ANSWER_NOT_FOUND, RATE_LIMITED, AUTH_UNAVAILABLE, OVERLOADED, DRAINING, ENGINE_UNAVAILABLE, UPSTREAM_RATE_LIMITED,
    UPSTREAM_UNAVAILABLE, UPSTREAM_AUTH, UPSTREAM_REJECTED, UPSTREAM_TRUNCATED, UPSTREAM_PROTOCOL, UPSTREAM_TIMEOUT,
    DEADLINE_EXCEEDED, INTERNAL, CONNECTION_FAILED, CONNECTION_LOST, STREAMING_UNAVAILABLE, PROTOCOL, UNKNOWN,
}

/** A question that was not answered to its end. [message] is for developers; [response], if any, for students. */
class StudyAIException(
    val code: Code,
    message: String,
    /** Whether asking the same question again can help, not before [retryAfter]. */
    val retryable: Boolean = false,
    val retryAfter: Duration? = null,
    val requestId: String? = null,
    val response: String? = null,
) : IOException(message)

/** How often and how soon to go back after failures in a row; how long a stream may be silent (heartbeats: 15 s). */
data class Patience(
    val attempts: Int = 7,
    val firstDelay: Duration = 500.milliseconds,
    val longestDelay: Duration = 8.seconds,
    val silence: Duration = 45.seconds,
)

/** Asks StudyAI. An interceptor of [client] adds the token, if one is needed; an item of [networkBack] ends a pause. */
class StudyAI(
    url: String,
    private val studentId: String? = null,
    private val patience: Patience = Patience(),
    private val networkBack: Flow<Any> = emptyFlow(),
    client: OkHttpClient = OkHttpClient(),
) {
    private val api = url.toHttpUrl().newBuilder().addPathSegments("api/ai").build()
    private val streams = client.waiting(patience.silence)
    private val replies = client.waiting(LONGEST_ANSWER)

    /**
     * The answer while it is written, whatever breaks on the way; the model is asked once. Whoever stops collecting
     * before its end has left, and the answer is stopped.
     */
    fun ask(question: Question): Flow<Event> = flow {
        val progress = Progress(patience, question)
        emitAll(events(progress).onCompletion { if (it != null && it !is StudyAIException) leave(progress) })
    }

    /** An answer that was begun before, from its start; live while it is written. Leaving does not stop it. */
    fun resume(answerId: String): Flow<Event> = flow { emitAll(events(Progress(patience, null, answerId))) }

    /** Stops an answer for all who read it: they get [Event.Finished] with the text so far. */
    suspend fun stop(answerId: String) = exchange<Unit>(replies, stopping(answerId)) { accepted(it) }.collect()

    private fun events(progress: Progress): Flow<Event> =
        flow { emitAll(attempt(progress)) }
            .retryWhen { error, _ -> error is StudyAIException && goesBack(progress, error) }
            .catch { throw if (it is JSONException) StudyAIException(Code.PROTOCOL, "This is not StudyAI's.") else it }

    private fun attempt(progress: Progress): Flow<Event> {
        val question = progress.question
        if (question != null && !progress.streaming)
            return exchange(replies, asking(question, "chat-image")) { send(JSONObject(accepted(it).body.string())) }
                .transform { reply -> progress.takeWhole(reply).forEach { emit(it) } }
        val resumed = progress.answerId?.let { resuming(it, progress.last) }
        return exchange(streams, resumed ?: asking(question!!, "chat-image-stream")) { sendMessages(it) }
            .mapNotNull(progress::take)
    }

    private suspend fun goesBack(progress: Progress, error: StudyAIException): Boolean {
        val pause = progress.pauseAfter(error) ?: return false
        val back = if (error.retryAfter == null) networkBack else emptyFlow()
        withTimeoutOrNull(pause) { back.firstOrNull() ?: awaitCancellation() }
        return true
    }

    private fun leave(progress: Progress) {
        val answerId = progress.answerId?.takeUnless { progress.isFinished } ?: return
        streams.newCall(stopping(answerId)).enqueue(Unheeded)
    }

    private fun asking(question: Question, route: String): Request {
        val members = JSONObject().put("prompt", question.prompt).put("accumulate", false)
            .put("base64_image", question.image?.toByteString()?.base64()).put("subject", question.subject)
            .put("session_id", question.sessionId).put("student_id", studentId)
        val body = members.toString().toRequestBody("application/json".toMediaType())
        if (body.contentLength() > MAX_BYTES) throw StudyAIException(Code.PAYLOAD_TOO_LARGE, "Scale the picture down.")
        val url = api.newBuilder().addPathSegment(route).build()
        return Request.Builder().url(url).header("Idempotency-Key", question.key).post(body).build()
    }

    private fun resuming(answerId: String, last: Long?): Request {
        val url = addressOf(answerId).newBuilder().addQueryParameter("accumulate", "false").build()
        val request = Request.Builder().url(url).header("Accept", "text/event-stream")
        return request.apply { if (last != null) header("Last-Event-ID", "$last") }.build()
    }

    private fun stopping(answerId: String) = Request.Builder().url(addressOf(answerId)).delete().build()

    private fun addressOf(answerId: String): HttpUrl {
        val url = api.newBuilder().addPathSegment("answers").addPathSegment(answerId)
        return url.apply { if (studentId != null) addQueryParameter("student_id", studentId) }.build()
    }
}

private const val MAX_BYTES = 3 * 1024 * 1024
private const val CUTS_BEFORE_FALLBACK = 3 // streams in a row that broke without having brought anything
private const val ASKED_AT_MOST = 3 // of a question whose answers engines forget
private val LONGEST_ANSWER = 150.seconds // in one reply, before which nothing comes
private val PASSING = setOf(
    Code.CONNECTION_FAILED, Code.CONNECTION_LOST, Code.OVERLOADED, Code.DRAINING, Code.ENGINE_UNAVAILABLE,
    Code.RATE_LIMITED, Code.AUTH_UNAVAILABLE,
) // failures of the way to an answer, and not of the answer

/** What is known of one answer, and what to do next. */
private class Progress(private val patience: Patience, val question: Question?, var answerId: String? = null) {
    var last: Long? = null
    var streaming = true
    var isFinished = false
    private var text = ""
    private var failures = 0
    private var cuts = 0
    private var forgotten = 0

    /** The event as the app should see it; null for what it has seen, and for what this version does not know. */
    fun take(message: Message): Event? {
        val (id, type, told) = message
        if (type == "error") throw failure(told, told.optLong("retry_after_ms", -1))
        if (type != "end" && id <= (last ?: -1)) return null
        last = id
        failures = 0
        cuts = 0
        return when (type) {
            "start" -> begin(told.getString("answer_id"), told.getString("model"), told.getString("session_id"))
            "content" -> more(told.getString("delta"))
            "end" -> finish(told, told.getString("content"))
            else -> null
        }
    }

    /** What the app has not seen of an answer that came in one reply. */
    fun takeWhole(reply: JSONObject): List<Event> {
        val id = reply.getString("answer_id")
        val begun = if (id == answerId) null else begin(id, reply.getString("model"), question?.sessionId)
        val whole = reply.getString("response")
        val rest = whole.removePrefix(text).ifEmpty { null }?.let(::more)
        return listOfNotNull(begun, rest, finish(reply, whole))
    }

    /** How long to wait before the next attempt; null where there is to be none. */
    fun pauseAfter(error: StudyAIException): Duration? {
        if (asksAnew(error) || fallsBack(error)) return Duration.ZERO
        failures += 1
        val asked = error.retryAfter ?: Duration.ZERO
        val goesBack = error.code in PASSING && failures <= patience.attempts && asked <= patience.longestDelay
        return if (goesBack) maxOf(asked, backoff()) else null
    }

    private fun asksAnew(error: StudyAIException): Boolean {
        if (error.code != Code.ANSWER_NOT_FOUND || question == null || ++forgotten == ASKED_AT_MOST) return false
        answerId = null
        last = null
        return true
    }

    private fun fallsBack(error: StudyAIException): Boolean {
        if (error.code == Code.CONNECTION_LOST) cuts += 1
        val blocked = error.code == Code.STREAMING_UNAVAILABLE || cuts == CUTS_BEFORE_FALLBACK
        if (!blocked || !streaming || question == null) return false
        streaming = false
        failures = 0
        return true
    }

    private fun backoff(): Duration {
        val doubled = patience.firstDelay * (1 shl minOf(failures - 1, 20))
        return minOf(patience.longestDelay, doubled) * Random.nextDouble(0.5, 1.0)
    }

    private fun begin(id: String, model: String, sessionId: String?): Event {
        answerId = id
        text = ""
        return Event.Started(id, model, sessionId)
    }

    private fun more(delta: String): Event {
        text += delta
        return Event.Text(delta, text)
    }

    private fun finish(told: JSONObject, whole: String): Event {
        if (whole != text) throw StudyAIException(Code.PROTOCOL, "The answer's pieces do not add up to the answer.")
        isFinished = true
        return Event.Finished(text, told.getString("finish_reason"), told.getJSONObject("usage").getInt("total_tokens"))
    }
}

/** An event of a stream: its number, -1 for none, and its type. */
private data class Message(val id: Long, val type: String, val told: JSONObject)

private fun OkHttpClient.waiting(silence: Duration): OkHttpClient {
    val longest = silence.inWholeMilliseconds
    return newBuilder().callTimeout(0, MILLISECONDS).readTimeout(longest, MILLISECONDS)
        .writeTimeout(longest, MILLISECONDS).build()
}

/** One request, and what is read from its reply. Whoever stops collecting closes its connection. */
private fun <T> exchange(client: OkHttpClient, request: Request, read: suspend ProducerScope<T>.(Response) -> Unit) =
    callbackFlow {
        var connected = false
        val noting = client.newBuilder().addNetworkInterceptor { connected = true; it.proceed(it.request()) }.build()
        val call = noting.newCall(request)
        launch(Dispatchers.IO) {
            try {
                call.execute().use { read(it) }
                close()
            } catch (error: Exception) { // not thrown, so that what was read before is still collected
                val code = if (connected) Code.CONNECTION_LOST else Code.CONNECTION_FAILED
                val broken = error is IOException && error !is StudyAIException
                close(if (broken) StudyAIException(code, "The connection broke: ${error.message}", true) else error)
            }
        }
        awaitClose(call::cancel)
    }

/** Sends the events of a stream up to its last; one that closes before was cut, which readUtf8LineStrict tells. */
private suspend fun ProducerScope<Message>.sendMessages(response: Response) {
    accepted(response, "text/event-stream")
    var last = -1L
    do {
        val message = response.body.source().message(last)
        last = message.id
        send(message)
    } while (message.type != "end" && message.type != "error")
}

/** The next event by the rules of server-sent events: comments and unknown fields are passed over, the id is kept. */
private fun BufferedSource.message(last: Long): Message {
    var id = last
    val data = mutableListOf<String>()
    while (true) {
        val line = readUtf8LineStrict()
        val value = line.substringAfter(':', "").removePrefix(" ")
        when (line.substringBefore(':')) {
            "data" -> data += value
            "id" -> id = value.toLongOrNull() ?: id
        }
        if (line.isNotEmpty() || data.isEmpty()) continue
        val told = JSONObject(data.joinToString("\n"))
        return Message(id, told.getString("type"), told)
    }
}

/** The reply, unless it is a refusal, or of another kind than is wanted. */
private fun accepted(response: Response, kind: String? = null): Response {
    val isOfKind = kind == null || response.header("Content-Type").orEmpty().startsWith(kind)
    if (response.isSuccessful && isOfKind) return response
    val told = runCatching { JSONObject(response.body.string()) }.getOrNull()
    throw when {
        told?.has("code") == true -> failure(told, response.header("Retry-After")?.toLongOrNull()?.times(1000) ?: -1)
        response.code in 502..504 -> StudyAIException(Code.CONNECTION_FAILED, "HTTP ${response.code} on the way.", true)
        kind != null -> StudyAIException(Code.STREAMING_UNAVAILABLE, "HTTP ${response.code} in place of a stream.")
        else -> StudyAIException(Code.PROTOCOL, "HTTP ${response.code}, which is not StudyAI's.")
    }
}

private fun failure(told: JSONObject, retryAfterMs: Long) = StudyAIException(
    Code.entries.find { it.name == told.getString("code") } ?: Code.UNKNOWN, told.getString("error"),
    told.getBoolean("retryable"), retryAfterMs.takeIf { it >= 0 }?.milliseconds,
    told.optString("request_id").ifEmpty { null }, told.optString("response").ifEmpty { null },
)

private object Unheeded : Callback {
    override fun onFailure(call: Call, e: IOException) = Unit
    override fun onResponse(call: Call, response: Response) = response.close()
}
