package hurtig.bench;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.concurrent.atomic.AtomicLong;

/**
 * What the sources and sinks of one TaskManager process have counted, written as JSON into the file that the system
 * property {@code hurtig.bench.probe} names whenever one of them closes.
 */
final class Probe {
    private static final AtomicLong EVENTS = new AtomicLong();
    private static final AtomicLong FIRST_NANOS = new AtomicLong();
    private static final AtomicLong HALF_NANOS = new AtomicLong();
    private static final AtomicLong LAST_NANOS = new AtomicLong();
    private static final AtomicLong ROWS_OUT = new AtomicLong();
    private static final AtomicLong NET_ROWS = new AtomicLong();
    private static final AtomicLong CHECKSUM = new AtomicLong();

    private Probe() {}

    /** A source begins. */
    static void opened() {
        FIRST_NANOS.compareAndSet(0, System.nanoTime());
    }

    /** {@code count} more of {@code total} events were emitted. */
    static void emitted(long count, long total) {
        long now = EVENTS.addAndGet(count);
        if (now >= total / 2 && HALF_NANOS.get() == 0) {
            HALF_NANOS.compareAndSet(0, System.nanoTime());
        }
        if (now >= total) {
            LAST_NANOS.set(System.nanoTime());
        }
    }

    /** A sink has taken {@code rows} changes that leave {@code net} rows with this sum of hashes. */
    static void taken(long rows, long net, long sum) {
        ROWS_OUT.addAndGet(rows);
        NET_ROWS.addAndGet(net);
        CHECKSUM.addAndGet(sum);
    }

    /** Writes the file. */
    static synchronized void write() {
        String file = System.getProperty("hurtig.bench.probe");
        if (file == null) {
            return;
        }
        long half = HALF_NANOS.get();
        String secondHalf = half == 0 || LAST_NANOS.get() == 0
                ? "null"
                : String.valueOf((LAST_NANOS.get() - half) / 1e9);
        String json = String.format(
                "{\"events\": %d, \"second_half_seconds\": %s, \"rows_out\": %d, \"net_rows\": %d, \"checksum\":"
                        + " \"%016x\"}%n",
                EVENTS.get(), secondHalf, ROWS_OUT.get(), NET_ROWS.get(), CHECKSUM.get());
        try {
            Path target = Path.of(file);
            Path draft = target.resolveSibling(target.getFileName() + ".draft");
            Files.writeString(draft, json);
            Files.move(draft, target, StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
