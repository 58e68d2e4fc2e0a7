// A starting point for iOS with llama.cpp (its examples/llama.swiftui, file LibLlama.swift); not compiled by Werkmeister.
import Foundation

/// The prompt as the template in the GGUF file writes it for one question; no begin token, llama.cpp adds its own.
func prompt(_ question: String) -> String {
    return @BEFORE@ + question + @AFTER@
}

/// Asks one question. `modelPath` is the GGUF file in the app's bundle. Set the sampler in LibLlama.swift to greedy.
func answer(modelPath: String, question: String) async throws -> String {
    let context = try LlamaContext.create_context(path: modelPath)
    await context.completion_init(text: prompt(question))
    var text = ""
    while await !context.is_done {
        text += await context.completion_loop()
    }
    return text
}
