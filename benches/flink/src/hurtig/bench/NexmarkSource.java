package hurtig.bench;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SourceSplit;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.table.data.RowData;

/**
 * The generator as a source. Numbers of events go to splits in blocks, round robin, and there is one split a subtask: the
 * same events go to the same subtask as in Hurtig.
 */
final class NexmarkSource implements Source<RowData, NexmarkSource.Split, List<NexmarkSource.Split>> {
    private static final long serialVersionUID = 1;

    /** Events of a split in a row. */
    private static final long BLOCK = 1000;
    /** Events that one call of the task emits: few enough not to delay a barrier, enough to make the call cheap. */
    private static final int STEP = 50;

    private final Model model;
    private final long events;
    private final int[] bidFields;

    /** {@code bidFields}: the fields of a table of bids; null for a table of all events. */
    NexmarkSource(Model model, long events, int[] bidFields) {
        this.model = model;
        this.events = events;
        this.bidFields = bidFields;
    }

    /** The blocks whose number modulo {@code modulus} is {@code residue}. */
    static final class Split implements SourceSplit {
        final int residue;
        final int modulus;
        /** The first number that was not emitted. */
        long next;

        Split(int residue, int modulus, long next) {
            this.residue = residue;
            this.modulus = modulus;
            this.next = next;
        }

        @Override
        public String splitId() {
            return residue + "/" + modulus;
        }
    }

    @Override
    public Boundedness getBoundedness() {
        return Boundedness.BOUNDED;
    }

    @Override
    public SplitEnumerator<Split, List<Split>> createEnumerator(SplitEnumeratorContext<Split> context) {
        int modulus = context.currentParallelism();
        List<Split> splits = new ArrayList<>();
        for (int residue = 0; residue < modulus; residue++) {
            splits.add(new Split(residue, modulus, residue * BLOCK));
        }
        return new Enumerator(context, splits);
    }

    @Override
    public SplitEnumerator<Split, List<Split>> restoreEnumerator(
            SplitEnumeratorContext<Split> context, List<Split> unassigned) {
        return new Enumerator(context, unassigned);
    }

    @Override
    public SourceReader<RowData, Split> createReader(SourceReaderContext context) {
        return new Reader();
    }

    @Override
    public SimpleVersionedSerializer<Split> getSplitSerializer() {
        return new SplitSerializer();
    }

    @Override
    public SimpleVersionedSerializer<List<Split>> getEnumeratorCheckpointSerializer() {
        return new SplitsSerializer();
    }

    /** Gives each reader that registers the splits with its number. */
    private static final class Enumerator implements SplitEnumerator<Split, List<Split>> {
        private final SplitEnumeratorContext<Split> context;
        private final List<Split> unassigned;

        Enumerator(SplitEnumeratorContext<Split> context, List<Split> unassigned) {
            this.context = context;
            this.unassigned = new ArrayList<>(unassigned);
        }

        @Override
        public void start() {}

        @Override
        public void handleSplitRequest(int subtask, String host) {}

        @Override
        public void addSplitsBack(List<Split> splits, int subtask) {
            unassigned.addAll(splits);
        }

        @Override
        public void addReader(int subtask) {
            List<Split> own = new ArrayList<>(unassigned);
            own.removeIf(split -> split.residue % context.currentParallelism() != subtask);
            unassigned.removeAll(own);
            own.forEach(split -> context.assignSplit(split, subtask));
            context.signalNoMoreSplits(subtask);
        }

        @Override
        public List<Split> snapshotState(long checkpoint) {
            return new ArrayList<>(unassigned);
        }

        @Override
        public void close() {}
    }

    /** Emits the events of its splits, the smallest number first. */
    private final class Reader implements SourceReader<RowData, Split> {
        private final List<Split> splits = new ArrayList<>();
        private final CompletableFuture<Void> allSplits = new CompletableFuture<>();
        private final Rows.Event event = new Rows.Event();
        private final Rows.Bid bid = new Rows.Bid(bidFields == null ? new int[0] : bidFields);

        @Override
        public void start() {
            Probe.opened();
        }

        @Override
        public InputStatus pollNext(ReaderOutput<RowData> output) {
            if (!allSplits.isDone()) {
                return InputStatus.NOTHING_AVAILABLE;
            }
            Split split = null;
            for (Split candidate : splits) {
                if (split == null || candidate.next < split.next) {
                    split = candidate;
                }
            }
            if (split == null || split.next >= events) {
                return InputStatus.END_OF_INPUT;
            }
            long from = split.next;
            long blockEnd = (from / BLOCK + 1) * BLOCK;
            long to = Math.min(Math.min(from + STEP, blockEnd), events);
            if (bidFields == null) {
                emitEvents(from, to, output);
            } else {
                emitBids(from, to, output);
            }
            split.next = to == blockEnd ? to + (split.modulus - 1) * BLOCK : to;
            Probe.emitted(to - from, events);
            return InputStatus.MORE_AVAILABLE;
        }

        private void emitEvents(long from, long to, ReaderOutput<RowData> output) {
            for (long n = from; n < to; n++) {
                long round = n / Model.ROUND;
                event.set(model, n, round, n - round * Model.ROUND);
                output.collect(event);
            }
        }

        private void emitBids(long from, long to, ReaderOutput<RowData> output) {
            for (long n = from; n < to; n++) {
                long round = n / Model.ROUND;
                long place = n - round * Model.ROUND;
                if (Model.kind(place) == Model.BID) {
                    bid.set(model, n, round, place);
                    output.collect(bid);
                }
            }
        }

        @Override
        public List<Split> snapshotState(long checkpoint) {
            List<Split> copies = new ArrayList<>();
            splits.forEach(s -> copies.add(new Split(s.residue, s.modulus, s.next)));
            return copies;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return allSplits;
        }

        @Override
        public void addSplits(List<Split> added) {
            splits.addAll(added);
        }

        @Override
        public void notifyNoMoreSplits() {
            allSplits.complete(null);
        }

        @Override
        public void close() {
            Probe.write();
        }
    }

    private static final class SplitSerializer implements SimpleVersionedSerializer<Split> {
        static final int BYTES = 16;

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(Split split) {
            return ByteBuffer.allocate(BYTES).putInt(split.residue).putInt(split.modulus).putLong(split.next).array();
        }

        @Override
        public Split deserialize(int version, byte[] bytes) throws IOException {
            if (version != 1 || bytes.length != BYTES) {
                throw new IOException("not a split of version 1: version " + version + ", " + bytes.length + " bytes");
            }
            ByteBuffer buffer = ByteBuffer.wrap(bytes);
            return new Split(buffer.getInt(), buffer.getInt(), buffer.getLong());
        }
    }

    private static final class SplitsSerializer implements SimpleVersionedSerializer<List<Split>> {
        private final SplitSerializer each = new SplitSerializer();

        @Override
        public int getVersion() {
            return 1;
        }

        @Override
        public byte[] serialize(List<Split> splits) {
            ByteBuffer buffer = ByteBuffer.allocate(splits.size() * SplitSerializer.BYTES);
            splits.forEach(split -> buffer.put(each.serialize(split)));
            return buffer.array();
        }

        @Override
        public List<Split> deserialize(int version, byte[] bytes) throws IOException {
            List<Split> splits = new ArrayList<>();
            for (int at = 0; at < bytes.length; at += SplitSerializer.BYTES) {
                splits.add(each.deserialize(version, java.util.Arrays.copyOfRange(bytes, at, at + SplitSerializer.BYTES)));
            }
            return splits;
        }
    }
}
