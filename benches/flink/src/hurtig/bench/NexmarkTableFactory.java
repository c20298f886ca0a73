package hurtig.bench;

import java.util.Arrays;
import java.util.List;
import java.util.Set;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.connector.source.SourceProvider;
import org.apache.flink.table.connector.source.abilities.SupportsProjectionPushDown;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** The connector {@code nexmark}, with those options of Hurtig's connector of this name that the benchmark sets. */
public final class NexmarkTableFactory implements DynamicTableSourceFactory {
    private static final ConfigOption<String> TABLE =
            ConfigOptions.key("table").stringType().defaultValue("events");
    private static final ConfigOption<Long> EVENTS =
            ConfigOptions.key("events.num").longType().noDefaultValue();
    private static final ConfigOption<Long> RATE =
            ConfigOptions.key("next-event.rate").longType().defaultValue(10_000L);
    private static final ConfigOption<Long> BASE_TIME =
            ConfigOptions.key("base-time").longType().defaultValue(1436918400000L);

    private static final List<String> EVENT_COLUMNS = List.of("event_type", "person", "auction", "bid");
    private static final List<String> BID_COLUMNS =
            List.of("auction", "bidder", "price", "channel", "url", "dateTime", "extra");

    @Override
    public String factoryIdentifier() {
        return "nexmark";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of(EVENTS);
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(TABLE, RATE, BASE_TIME);
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        FactoryUtil.TableFactoryHelper helper = FactoryUtil.createTableFactoryHelper(this, context);
        helper.validate();
        ReadableConfig options = helper.getOptions();
        boolean bids = options.get(TABLE).equals("bid");
        List<String> expected = bids ? BID_COLUMNS : EVENT_COLUMNS;
        List<String> columns = ((RowType) context.getPhysicalRowDataType().getLogicalType()).getFieldNames();
        if (!columns.equals(expected)) {
            throw new ValidationException("the columns of this nexmark table must be " + expected + ", not " + columns);
        }
        Model model = new Model(options.get(BASE_TIME), options.get(RATE));
        return bids
                ? new ProjectedTable(model, options.get(EVENTS), Rows.Bid.ALL)
                : new Table(model, options.get(EVENTS), null);
    }

    /** A table of all events, which always makes all their fields. */
    private static class Table implements ScanTableSource {
        final Model model;
        final long events;
        int[] bidFields;

        Table(Model model, long events, int[] bidFields) {
            this.model = model;
            this.events = events;
            this.bidFields = bidFields;
        }

        @Override
        public ChangelogMode getChangelogMode() {
            return ChangelogMode.insertOnly();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            return SourceProvider.of(new NexmarkSource(model, events, bidFields));
        }

        @Override
        public DynamicTableSource copy() {
            return new Table(model, events, bidFields);
        }

        @Override
        public String asSummaryString() {
            return "nexmark";
        }
    }

    /** A table of bids that makes only the columns that are asked for. */
    private static final class ProjectedTable extends Table implements SupportsProjectionPushDown {
        ProjectedTable(Model model, long events, int[] bidFields) {
            super(model, events, bidFields);
        }

        @Override
        public boolean supportsNestedProjection() {
            return false;
        }

        @Override
        public void applyProjection(int[][] projected, DataType produced) {
            bidFields = Arrays.stream(projected).mapToInt(path -> path[0]).toArray();
        }

        @Override
        public DynamicTableSource copy() {
            return new ProjectedTable(model, events, bidFields);
        }
    }
}
