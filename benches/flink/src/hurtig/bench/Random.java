package hurtig.bench;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/** Random numbers that follow from a position: connectors/src/random.rs in Java. */
final class Random {
    private static final VarHandle LONGS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final long ONES = 0x0101_0101_0101_0101L;

    private Random() {}

    /** 64 random bits for number {@code n} of a stream. */
    static long bits(long n, long stream) {
        long z = n * 0x9e3779b97f4a7c15L + stream * 0xd1b54a32d192ed03L;
        z = (z ^ (z >>> 30)) * 0xbf58476d1ce4e5b9L;
        z = (z ^ (z >>> 27)) * 0x94d049bb133111ebL;
        return z ^ (z >>> 31);
    }

    /** From the low 32 bits a number below {@code bound}. */
    static long below(long bits, long bound) {
        return ((bits & 0xffff_ffffL) * bound) >>> 32;
    }

    /** From 64 bits a number below {@code bound}, which may be large (but not negative). */
    static long belowWide(long bits, long bound) {
        // The unsigned high half of the product; bound is not negative, so only bits needs mending.
        return Math.multiplyHigh(bits, bound) + ((bits >> 63) & bound);
    }

    /** Eight letters, the first one in the lowest byte. */
    static long letters(long bits) {
        long five = bits & (0x1f * ONES);
        long wraps = ((five + (0x80 - 26) * ONES) >>> 7) & ONES;
        return five - wraps * 26 + 'a' * ONES;
    }

    /**
     * Writes {@code length} letters that follow from {@code n} and {@code stream}. Up to seven bytes behind them are
     * overwritten too.
     */
    static void putLetters(byte[] out, int at, long n, long stream, int length) {
        long word = bits(n, stream);
        for (int done = 0; done < length; done += 8) {
            LONGS.set(out, at + done, letters(word));
            word = word * 0x5851f42d4c957f2dL + 0x14057b7ef767814fL;
            word ^= word >>> 29;
        }
    }
}
