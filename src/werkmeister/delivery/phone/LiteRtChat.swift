// A starting point for iOS with LiteRT-LM; not compiled by Werkmeister.
// Package: https://github.com/google-ai-edge/LiteRT-LM, product LiteRTLM
import Foundation
import LiteRTLM

private let system = @SYSTEM@

/// Asks one question. `modelPath` is model.litertlm in the app's bundle or documents folder.
func answer(modelPath: String, question: String) async throws -> String {
    let engine = Engine(
        engineConfig: try EngineConfig(modelPath: modelPath, backend: .cpu(), cacheDir: NSTemporaryDirectory())
    )
    try await engine.initialize()
    // topK 1 is greedy: what the expected answers were recorded with.
    let greedy = try SamplerConfig(topK: 1, topP: 1.0, temperature: 1.0)
    let config = system.isEmpty
        ? ConversationConfig(samplerConfig: greedy)
        : ConversationConfig(systemMessage: Message(system, role: .system), samplerConfig: greedy)
    let conversation = try await engine.createConversation(with: config)
    return try await conversation.sendMessage(Message(question)).toString
}
