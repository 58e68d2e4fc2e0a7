// A starting point for Android with llama.cpp (its examples/llama.android, module lib); not compiled by Werkmeister.
package expert

import android.content.Context
import com.arm.aichat.AiChat
import kotlinx.coroutines.flow.Flow

private const val SYSTEM = @SYSTEM@

/** Loads the GGUF file, copied to the app's files folder, and asks one question; llama.cpp takes the template from it. */
suspend fun answer(context: Context, modelPath: String, question: String): Flow<String> {
    val engine = AiChat.getInferenceEngine(context)
    engine.loadModel(modelPath)
    if (SYSTEM.isNotEmpty()) engine.setSystemPrompt(SYSTEM)
    return engine.sendUserPrompt(question, predictLength = @TOKENS@)
}
