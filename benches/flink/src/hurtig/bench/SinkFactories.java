package hurtig.bench;

import java.util.Set;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.types.RowKind;

/** The sinks of the benchmark, which keep nothing but counts. */
final class SinkFactories {
    private SinkFactories() {}

    /** The connector {@code checksum}: the sum of the hashes of all rows, taken back rows subtracted. */
    public static final class Checksum extends Factory {
        @Override
        public String factoryIdentifier() {
            return "checksum";
        }

        @Override
        public DynamicTableSink createDynamicTableSink(Context context) {
            return new Table(new RowHash(context.getPhysicalRowDataType().getLogicalType().getChildren()));
        }
    }

    /** The connector {@code discard}: counts rows. */
    public static final class Discard extends Factory {
        @Override
        public String factoryIdentifier() {
            return "discard";
        }

        @Override
        public DynamicTableSink createDynamicTableSink(Context context) {
            return new Table(null);
        }
    }

    private abstract static class Factory implements DynamicTableSinkFactory {
        @Override
        public Set<ConfigOption<?>> requiredOptions() {
            return Set.of();
        }

        @Override
        public Set<ConfigOption<?>> optionalOptions() {
            return Set.of();
        }
    }

    private static final class Table implements DynamicTableSink {
        private final RowHash hash;

        Table(RowHash hash) {
            this.hash = hash;
        }

        @Override
        public ChangelogMode getChangelogMode(ChangelogMode requested) {
            return ChangelogMode.all();
        }

        @Override
        public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
            return SinkV2Provider.of(new CountingSink(hash));
        }

        @Override
        public DynamicTableSink copy() {
            return new Table(hash);
        }

        @Override
        public String asSummaryString() {
            return hash == null ? "discard" : "checksum";
        }
    }

    private static final class CountingSink implements Sink<RowData> {
        private static final long serialVersionUID = 1;
        private final RowHash hash;

        CountingSink(RowHash hash) {
            this.hash = hash;
        }

        @Override
        public SinkWriter<RowData> createWriter(WriterInitContext context) {
            return new Writer(hash);
        }
    }

    private static final class Writer implements SinkWriter<RowData> {
        private final RowHash hash;
        private long rows;
        private long net;
        private long sum;

        Writer(RowHash hash) {
            this.hash = hash;
        }

        @Override
        public void write(RowData row, Context context) {
            rows++;
            RowKind kind = row.getRowKind();
            long h = hash == null ? 0 : hash.hash(row);
            if (kind == RowKind.INSERT || kind == RowKind.UPDATE_AFTER) {
                net++;
                sum += h;
            } else {
                net--;
                sum -= h;
            }
        }

        @Override
        public void flush(boolean endOfInput) {}

        @Override
        public void close() {
            Probe.taken(rows, net, sum);
            Probe.write();
        }
    }
}
