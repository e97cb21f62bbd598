import Foundation

/// Does what a line of JSON on standard input orders, and writes what happens as such lines.
@main
struct Driver {
    static func main() async throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let order = try decoder.decode(Order.self, from: Data(readLine()!.utf8))
        let studyAI = StudyAI(order.url, studentID: order.studentId, patience: order.patience) { order.token }
        let work = Task { await carryOut(order, studyAI) }
        await work.value
        tell(["what": "over"])
        _ = readLine()
    }
}

private struct Order: Decodable, Sendable {
    var `do`: String
    var url: URL
    var prompt, key: String
    var image: Data?
    var studentId, sessionId, subject, token, answerId, leaveAt: String?
    var attempts: Int
    var firstDelayMs, longestDelayMs, silenceMs: Double

    var question: Question {
        Question(prompt: prompt, image: image, subject: subject, sessionID: sessionId, key: key)
    }
    var patience: Patience {
        Patience(
            attempts: attempts, firstDelay: firstDelayMs / 1000, longestDelay: longestDelayMs / 1000,
            silence: silenceMs / 1000)
    }
}

private func carryOut(_ order: Order, _ studyAI: StudyAI) async {
    do {
        switch order.do {
        case "ask": try await tellAll(studyAI.ask(order.question), order.leaveAt)
        case "resume": try await tellAll(studyAI.resume(order.answerId!), order.leaveAt)
        case "stop": try await studyAI.stop(order.answerId!)
        default: try await ask(studyAI, order.question)
        }
    } catch let error as StudyAIError {
        tell([
            "what": "failed", "code": error.code.rawValue, "retryable": error.retryable, "response": error.response,
            "retry_after": error.retryAfter.map { $0 * 1000 }, "request_id": error.requestID, "message": error.message,
        ])
    } catch is CancellationError {
        tell(["what": "left"])
    } catch {
        tell(["what": "thrown", "error": "\(error)"])
    }
}

private func tellAll(_ events: AsyncThrowingStream<Event, any Error>, _ leaveAt: String?) async throws {
    for try await event in events {
        switch event {
        case .started(let answerID, _, let sessionID):
            tell(["what": "started", "answer_id": answerID, "session_id": sessionID])
        case .text(let delta, let all):
            tell(["what": "text", "delta": delta, "all": all])
            if let leaveAt, all.contains(leaveAt) { withUnsafeCurrentTask { $0?.cancel() } }
        case .finished(let text, let reason, let tokens):
            tell(["what": "finished", "text": text, "reason": reason, "tokens": tokens])
        }
    }
    if Task.isCancelled { tell(["what": "left"]) }
}

private func ask(_ studyAI: StudyAI, _ question: Question) async throws {
    // As the HTTP guide shows it.
    do {
        for try await event in studyAI.ask(question) {
            switch event {
            case .started: show("")
            case .text(_, let all): show(all)
            case .finished(let text, _, _): keep(text)
            }
        }
    } catch let error as StudyAIError {
        show(error.response ?? sentence(for: error.code))
        if error.retryable { offerAgain(question, after: error.retryAfter) }
    }
}

private func show(_ text: String) { tell(["what": "shown", "text": text]) }

private func keep(_ text: String) { tell(["what": "kept", "text": text]) }

private func sentence(for code: StudyAIError.Code) -> String { "of \(code.rawValue)" }

private func offerAgain(_ question: Question, after: TimeInterval?) { tell(["what": "offered", "key": question.key]) }

private func tell(_ told: [String: Any?]) {
    let line = try! JSONSerialization.data(withJSONObject: told.compactMapValues { $0 }) + Data("\n".utf8)
    FileHandle.standardOutput.write(line)
}
