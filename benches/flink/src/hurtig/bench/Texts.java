package hurtig.bench;

import static hurtig.bench.Random.below;
import static hurtig.bench.Random.bits;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.flink.table.data.StringData;

/** Texts of events: connectors/src/nexmark/texts.rs in Java. */
final class Texts {
    private Texts() {}

    static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.US_ASCII);
    }

    static int wordsLength(long number, long stream, long max) {
        return (int) (3 + below(bits(number, stream), max - 3));
    }

    /** Letters, one of thirteen of which is {@code special}. */
    static byte[] words(long number, long stream, long max, char special) {
        int length = wordsLength(number, stream, max);
        byte[] out = new byte[length + 8];
        Random.putLetters(out, 0, number, stream + 1, length);
        long word = 0;
        for (int i = 0; i < length; i++) {
            if (i % 8 == 0) {
                word = bits(number, stream + 2 + (i / 8) * 1000L);
            }
            if ((word & 0xff) < 20) {
                out[i] = (byte) special;
            }
            word >>>= 8;
        }
        return Arrays.copyOf(out, length);
    }

    /** The length of the text that fills an event up to about {@code wanted} bytes. */
    static int extraLength(long number, long stream, int current, int wanted) {
        int missing = wanted - current;
        if (missing < 0) {
            return 0;
        }
        int delta = (missing * 2 + 5) / 10;
        return missing - delta + (int) below(bits(number, stream), 2L * delta);
    }

    /** The text that fills an event. */
    static StringData extra(long number, long stream, int current, int wanted) {
        int length = extraLength(number, stream, current, wanted);
        byte[] bytes = new byte[(length + 7) & ~7];
        Random.putLetters(bytes, 0, number, stream + 1, length);
        return StringData.fromBytes(bytes, 0, length);
    }
}
