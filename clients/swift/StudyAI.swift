import Foundation

#if canImport(FoundationNetworking)
import FoundationNetworking  // where Foundation is not Apple's
#endif

/// What a student asks. The key names it: to try again, ask the same question.
struct Question: Sendable {
    var prompt: String
    /// A JPEG, PNG, WebP or GIF; nil where the session has a picture.
    var image: Data?
    var subject, sessionID: String?
    var key = UUID().uuidString
}

enum Event: Sendable, Equatable {
    /// Comes again where the service has lost the answer and another begins: what came before is no part of it.
    case started(answerID: String, model: String, sessionID: String?)
    /// More text, and all of it so far.
    case text(delta: String, all: String)
    /// The answer is whole. The reason is `stop`, `length`, `content_filter` or `stopped`.
    case finished(text: String, reason: String, totalTokens: Int)
}

/// A question that was not answered to its end. `message` is for developers; `response`, if any, for students.
struct StudyAIError: LocalizedError, Sendable {
    /// The service's codes; from `connectionFailed` on the client's own. `unknown` stands for those of a newer service.
    enum Code: String, CaseIterable, Sendable {
        case invalidRequest = "INVALID_REQUEST", imageUnreadable = "IMAGE_UNREADABLE"
        case payloadTooLarge = "PAYLOAD_TOO_LARGE", idempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED"
        case unauthenticated = "UNAUTHENTICATED", forbidden = "FORBIDDEN", answerNotFound = "ANSWER_NOT_FOUND"
        case rateLimited = "RATE_LIMITED", authUnavailable = "AUTH_UNAVAILABLE", overloaded = "OVERLOADED"
        case draining = "DRAINING", engineUnavailable = "ENGINE_UNAVAILABLE"
        case upstreamRateLimited = "UPSTREAM_RATE_LIMITED", upstreamUnavailable = "UPSTREAM_UNAVAILABLE"
        case upstreamAuth = "UPSTREAM_AUTH", upstreamRejected = "UPSTREAM_REJECTED"
        case upstreamTruncated = "UPSTREAM_TRUNCATED", upstreamProtocol = "UPSTREAM_PROTOCOL"
        case upstreamTimeout = "UPSTREAM_TIMEOUT", deadlineExceeded = "DEADLINE_EXCEEDED", `internal` = "INTERNAL"
        case connectionFailed = "CONNECTION_FAILED", connectionLost = "CONNECTION_LOST"
        case streamingUnavailable = "STREAMING_UNAVAILABLE", `protocol` = "PROTOCOL", unknown = "UNKNOWN"
    }

    var code: Code
    var message: String
    /// Whether asking the same question again can help, not before `retryAfter` (seconds).
    var retryable = false
    var retryAfter: TimeInterval?
    var requestID, response: String?
    var errorDescription: String? { response ?? message }
}

/// How often and how soon (in seconds) to go back after failures; how long a stream may be silent (heartbeats: 15 s).
struct Patience: Sendable {
    var attempts = 7
    var firstDelay = 0.5, longestDelay = 8.0, silence = 45.0
}

/// Asks StudyAI.
final class StudyAI: Sendable {
    private let api: URL
    private let studentID: String?
    private let patience: Patience
    private let token: @Sendable () async throws -> String?
    private let relay = Relay()
    private let session: URLSession

    /// `token` gives the bearer token for each request.
    init(
        _ url: URL, studentID: String? = nil, patience: Patience = Patience(),
        token: @escaping @Sendable () async throws -> String? = { nil }
    ) {
        (api, self.studentID) = (url.appendingPathComponent("api/ai"), studentID)
        (self.patience, self.token) = (patience, token)
        session = URLSession(configuration: configuration(), delegate: relay, delegateQueue: nil)
    }

    deinit { session.finishTasksAndInvalidate() }

    /// The answer while it is written, whatever breaks on the way; the model is asked once. Whoever leaves the loop
    /// before the end, or whose task is cancelled, has left: the answer is stopped.
    func ask(_ question: Question) -> AsyncThrowingStream<Event, any Error> {
        events(Progress(patience: patience, question: question))
    }

    /// An answer that was begun before, from its start; live while it is written. Leaving does not stop it.
    func resume(_ answerID: String) -> AsyncThrowingStream<Event, any Error> {
        events(Progress(patience: patience, answerID: answerID))
    }

    /// Stops an answer for all who read it: they get `finished` with the text so far.
    func stop(_ answerID: String) async throws {
        var request = URLRequest(url: address(of: answerID))
        request.httpMethod = "DELETE"
        try await exchange(request) { _ in }
    }

    private func events(_ beginning: Progress) -> AsyncThrowingStream<Event, any Error> {
        AsyncThrowingStream { app in
            let work = Task {
                var progress = beginning
                do {
                    while !progress.isFinished { try await attempt(&progress) { app.yield($0) } }
                    app.finish()
                } catch {
                    if Task.isCancelled { leave(progress) }
                    app.finish(throwing: Task.isCancelled ? CancellationError() : error)
                }
            }
            app.onTermination = { _ in work.cancel() }
        }
    }

    private func attempt(_ progress: inout Progress, _ tell: (Event) -> Void) async throws {
        do {
            if progress.streaming { try await stream(&progress, tell) } else { try await complete(&progress, tell) }
        } catch let error as StudyAIError {
            guard let pause = progress.pause(after: error) else { throw error }
            try await Task.sleep(nanoseconds: UInt64(pause * 1e9))
        }
    }

    private func stream(_ progress: inout Progress, _ tell: (Event) -> Void) async throws {
        let resumed = progress.answerID.map { resuming($0, after: progress.last) }
        var parser = Parser()
        try await exchange(resumed ?? asking(progress.question!, "chat-image-stream"), "text/event-stream") {
            for (id, told) in try parser.events(in: $0) { try progress.take(id, told).map(tell) }
        }
        if !progress.isFinished { throw lost("The stream was cut.") }
    }

    private func complete(_ progress: inout Progress, _ tell: (Event) -> Void) async throws {
        var body = Data()
        try await exchange(asking(progress.question!, "chat-image")) { body += $0 }
        try progress.takeWhole(told(body)).forEach(tell)
    }

    private func leave(_ progress: Progress) {
        guard let answerID = progress.answerID, progress.question != nil else { return }
        Task { try? await stop(answerID) }  // a task of its own: this one is cancelled
    }

    /// One request. Hands over what comes, as it comes; a refusal, or another kind of reply than is wanted, is thrown.
    private func exchange(_ request: URLRequest, _ kind: String? = nil, _ take: (Data) throws -> Void) async throws {
        var request = request
        request.timeoutInterval = kind == nil ? longestAnswer : patience.silence
        if let token = try await token() { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        var refused: (head: HTTPURLResponse, body: Data)?
        for try await (head, data) in relay.arrivals(session.dataTask(with: request)) {
            if 200..<300 ~= head.statusCode, kind == nil || head.mimeType == kind {
                try take(data)
            } else {
                refused = (head, (refused?.body ?? Data()) + data)
            }
        }
        try Task.checkCancellation()  // which ends the loop as well
        if let refused { throw refusal(refused.head, refused.body, streaming: kind != nil) }
    }

    private func asking(_ question: Question, _ route: String) throws -> URLRequest {
        var members: [String: Any] = ["prompt": question.prompt, "accumulate": false]
        members["base64_image"] = question.image?.base64EncodedString()
        members["subject"] = question.subject
        members["session_id"] = question.sessionID
        members["student_id"] = studentID
        var request = URLRequest(url: api.appendingPathComponent(route))
        request.httpMethod = "POST"
        let body = try JSONSerialization.data(withJSONObject: members)
        if body.count > maxBytes { throw StudyAIError(code: .payloadTooLarge, message: "Scale the picture down.") }
        request.httpBody = body
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        request.setValue(question.key, forHTTPHeaderField: "Idempotency-Key")
        return request
    }

    private func resuming(_ answerID: String, after last: Int?) -> URLRequest {
        var request = URLRequest(url: address(of: answerID, [URLQueryItem(name: "accumulate", value: "false")]))
        request.setValue("text/event-stream", forHTTPHeaderField: "Accept")
        request.setValue(last.map(String.init), forHTTPHeaderField: "Last-Event-ID")
        return request
    }

    private func address(of answerID: String, _ items: [URLQueryItem] = []) -> URL {
        let url = api.appendingPathComponent("answers").appendingPathComponent(answerID)
        var parts = URLComponents(url: url, resolvingAgainstBaseURL: false)!
        parts.queryItems = items + (studentID.map { [URLQueryItem(name: "student_id", value: $0)] } ?? [])
        return parts.url!
    }
}

// MARK: - What is known of one answer, and what to do next

private let maxBytes = 3 * 1024 * 1024
private let longestAnswer = 150.0  // in one reply, before which nothing comes
private let cutsBeforeFallback = 3  // streams in a row that broke without having brought anything
private let askedAtMost = 3  // of a question whose answers engines forget
/// Failures of the way to an answer, and not of the answer.
private let passing: Set<StudyAIError.Code> = [
    .connectionFailed, .connectionLost, .overloaded, .draining, .engineUnavailable, .rateLimited, .authUnavailable,
]

private struct Progress {
    let patience: Patience
    var question: Question?
    var answerID: String?
    var last: Int?
    var streaming = true
    var isFinished = false
    var text = ""
    var failures = 0, cuts = 0, forgotten = 0

    /// The event as the app should see it; nil for what it has seen, and for what this version does not know.
    mutating func take(_ id: Int?, _ told: Told) throws -> Event? {
        if told.type == "error" { throw failure(told, retryAfter: told.retryAfterMs.map { $0 / 1000 }) }
        if told.type != "end", let id, let last, id <= last { return nil }
        (last, failures, cuts) = (id ?? last, 0, 0)
        switch told.type {
        case "start": return try begin(told, told.sessionId)
        case "content": return more(try known(told.delta))
        case "end": return try finish(told, try known(told.content))
        default: return nil
        }
    }

    /// What the app has not seen of an answer that came in one reply.
    mutating func takeWhole(_ told: Told) throws -> [Event] {
        let begun = told.answerId == answerID ? nil : try begin(told, question?.sessionID)
        let whole = try known(told.response)
        let rest = String(whole.unicodeScalars.dropFirst(text.unicodeScalars.count))  // may begin within a character
        return try [begun, rest.isEmpty ? nil : more(rest), finish(told, whole)].compactMap { $0 }
    }

    /// How long to wait before the next attempt; nil where there is to be none.
    mutating func pause(after error: StudyAIError) -> TimeInterval? {
        if asksAnew(error) || fallsBack(error) { return 0 }
        failures += 1
        let asked = error.retryAfter ?? 0
        let goesBack = passing.contains(error.code) && failures <= patience.attempts && asked <= patience.longestDelay
        let longest = min(patience.longestDelay, patience.firstDelay * pow(2, Double(failures - 1)))
        return goesBack ? max(asked, .random(in: longest / 2...longest)) : nil
    }

    private mutating func asksAnew(_ error: StudyAIError) -> Bool {
        guard error.code == .answerNotFound, question != nil else { return false }
        forgotten += 1
        if forgotten < askedAtMost { (answerID, last) = (nil, nil) }
        return forgotten < askedAtMost
    }

    private mutating func fallsBack(_ error: StudyAIError) -> Bool {
        if error.code == .connectionLost { cuts += 1 }
        let blocked = error.code == .streamingUnavailable || cuts == cutsBeforeFallback
        guard blocked, streaming, question != nil else { return false }
        (streaming, failures) = (false, 0)
        return true
    }

    private mutating func begin(_ told: Told, _ sessionID: String?) throws -> Event {
        let id = try known(told.answerId)
        (answerID, text) = (id, "")
        return .started(answerID: id, model: try known(told.model), sessionID: sessionID)
    }

    private mutating func more(_ delta: String) -> Event {
        text += delta
        return .text(delta: delta, all: text)
    }

    private mutating func finish(_ told: Told, _ whole: String) throws -> Event {
        guard whole == text else { throw notOurs() }
        isFinished = true
        let tokens = try known(told.usage).totalTokens
        return .finished(text: text, reason: try known(told.finishReason), totalTokens: tokens)
    }
}

// MARK: - What comes on a connection

private func configuration() -> URLSessionConfiguration {
    let configuration = URLSessionConfiguration.ephemeral
    #if !canImport(FoundationNetworking)
    configuration.waitsForConnectivity = true  // a phone without a network goes on as soon as it has one
    configuration.timeoutIntervalForResource = 300
    #endif
    return configuration
}

/// Hands what comes on each connection to its reader, as it comes.
private final class Relay: NSObject, URLSessionDataDelegate, @unchecked Sendable {
    typealias Arrivals = AsyncThrowingStream<(HTTPURLResponse, Data), any Error>
    private let lock = NSLock()
    private var readers: [Int: Arrivals.Continuation] = [:]

    func arrivals(_ task: URLSessionDataTask) -> Arrivals {
        Arrivals { reader in
            lock.withLock { readers[task.taskIdentifier] = reader }
            reader.onTermination = { _ in task.cancel() }
            task.resume()
        }
    }

    func urlSession(_: URLSession, dataTask task: URLSessionDataTask, didReceive data: Data) {
        guard let head = task.response as? HTTPURLResponse else { return }
        lock.withLock { readers[task.taskIdentifier] }?.yield((head, data))
    }

    func urlSession(_: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        let reader = lock.withLock { readers.removeValue(forKey: task.taskIdentifier) }
        if let head = task.response as? HTTPURLResponse { reader?.yield((head, Data())) }  // a reply may have no body
        reader?.finish(throwing: error.map(failure))
    }
}

/// Splits bytes, and not characters: "\r\n" is one. Comments and unknown fields are passed over, the id is kept.
private struct Parser {
    private var line = Data(), data = Data()
    private var id: Int?

    mutating func events(in chunk: Data) throws -> [(Int?, Told)] {
        var events: [(Int?, Told)] = []
        for byte in chunk {
            guard byte == UInt8(ascii: "\n") else { line.append(byte); continue }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if line.isEmpty, !data.isEmpty { events.append((id, try told(data))) }
            if line.isEmpty { data = Data() } else { take(String(decoding: line, as: UTF8.self).unicodeScalars) }
            line = Data()
        }
        return events
    }

    private mutating func take(_ line: String.UnicodeScalarView) {
        let field = line.prefix { $0 != ":" }
        var value = line.dropFirst(field.count + 1)
        if value.first == " " { value.removeFirst() }
        if String(field) == "data" { data += Data("\(Substring(value))\n".utf8) }
        if String(field) == "id" { id = Int(String(value)) ?? id }
    }
}

/// What events and replies say, of which each has its part.
private struct Told: Decodable {
    struct Usage: Decodable { var totalTokens: Int }
    var type, answerId, model, sessionId, delta, content, response, finishReason, code, error, requestId: String?
    var usage: Usage?
    var retryable: Bool?
    var retryAfterMs: Double?
}

private func told(_ data: Data) throws -> Told {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    do { return try decoder.decode(Told.self, from: data) } catch { throw notOurs() }
}

private func known<Value>(_ value: Value?) throws -> Value {
    guard let value else { throw notOurs() }
    return value
}

// MARK: - Failures

private func notOurs() -> StudyAIError {
    StudyAIError(code: .protocol, message: "What came is nothing that StudyAI says.")
}

private func lost(_ message: String) -> StudyAIError {
    StudyAIError(code: .connectionLost, message: message, retryable: true)
}

private func failure(_ error: any Error) -> any Error {
    let unreached: [URLError.Code] = [.notConnectedToInternet, .cannotFindHost, .cannotConnectToHost, .dnsLookupFailed]
    guard let error = error as? URLError, error.code != .cancelled else { return error }
    guard unreached.contains(error.code) else { return lost(error.localizedDescription) }
    return StudyAIError(code: .connectionFailed, message: error.localizedDescription, retryable: true)
}

private func failure(_ told: Told, retryAfter: TimeInterval?) -> StudyAIError {
    StudyAIError(
        code: told.code.flatMap(StudyAIError.Code.init) ?? .unknown, message: told.error ?? "",
        retryable: told.retryable ?? false, retryAfter: retryAfter, requestID: told.requestId, response: told.response)
}

private func refusal(_ head: HTTPURLResponse, _ body: Data, streaming: Bool) -> StudyAIError {
    if let told = try? told(body), told.code != nil {
        return failure(told, retryAfter: head.value(forHTTPHeaderField: "Retry-After").flatMap(TimeInterval.init))
    }
    let message = "HTTP \(head.statusCode), which is not StudyAI's."
    let code: StudyAIError.Code = streaming ? .streamingUnavailable : .protocol
    let onTheWay = 502...504 ~= head.statusCode
    return StudyAIError(code: onTheWay ? .connectionFailed : code, message: message, retryable: onTheWay)
}
