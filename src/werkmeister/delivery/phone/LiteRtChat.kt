// A starting point for Android with LiteRT-LM; not compiled by Werkmeister.
// Gradle: implementation("com.google.ai.edge.litertlm:litertlm-android:VERSION")
package expert

import com.google.ai.edge.litertlm.Contents
import com.google.ai.edge.litertlm.ConversationConfig
import com.google.ai.edge.litertlm.Engine
import com.google.ai.edge.litertlm.EngineConfig
import com.google.ai.edge.litertlm.SamplerConfig

private const val SYSTEM = @SYSTEM@

/** Asks one question. `modelPath` is model.litertlm, copied to the app's files folder. Call it off the main thread. */
suspend fun answer(modelPath: String, question: String, piece: (String) -> Unit) {
    // topK = 1 is greedy: what the expected answers were recorded with.
    val greedy = SamplerConfig(topK = 1, topP = 1.0, temperature = 1.0)
    val config =
        if (SYSTEM.isEmpty()) ConversationConfig(samplerConfig = greedy)
        else ConversationConfig(systemInstruction = Contents.of(SYSTEM), samplerConfig = greedy)
    Engine(EngineConfig(modelPath = modelPath)).use { engine ->
        engine.initialize()
        engine.createConversation(config).use { conversation ->
            conversation.sendMessageAsync(question).collect { piece(it.toString()) }
        }
    }
}
