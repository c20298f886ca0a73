package hurtig.bench;

import org.apache.flink.table.data.ArrayData;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.MapData;
import org.apache.flink.table.data.RawValueData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.types.RowKind;
import org.apache.flink.types.variant.Variant;

/** The rows that the generator emits: mutable, reused, and without boxed numbers, so that Flink gets them cheaply. */
final class Rows {
    private Rows() {}

    /** What a row of this source does not have. */
    abstract static class Base implements RowData {
        @Override
        public RowKind getRowKind() {
            return RowKind.INSERT;
        }

        @Override
        public void setRowKind(RowKind kind) {
            if (kind != RowKind.INSERT) {
                throw new UnsupportedOperationException("the generator inserts only");
            }
        }

        @Override
        public boolean getBoolean(int pos) {
            throw missing(pos);
        }

        @Override
        public byte getByte(int pos) {
            throw missing(pos);
        }

        @Override
        public short getShort(int pos) {
            throw missing(pos);
        }

        @Override
        public int getInt(int pos) {
            throw missing(pos);
        }

        @Override
        public long getLong(int pos) {
            throw missing(pos);
        }

        @Override
        public float getFloat(int pos) {
            throw missing(pos);
        }

        @Override
        public double getDouble(int pos) {
            throw missing(pos);
        }

        @Override
        public StringData getString(int pos) {
            throw missing(pos);
        }

        @Override
        public DecimalData getDecimal(int pos, int precision, int scale) {
            throw missing(pos);
        }

        @Override
        public TimestampData getTimestamp(int pos, int precision) {
            throw missing(pos);
        }

        @Override
        public <T> RawValueData<T> getRawValue(int pos) {
            throw missing(pos);
        }

        @Override
        public byte[] getBinary(int pos) {
            throw missing(pos);
        }

        @Override
        public ArrayData getArray(int pos) {
            throw missing(pos);
        }

        @Override
        public MapData getMap(int pos) {
            throw missing(pos);
        }

        @Override
        public RowData getRow(int pos, int fields) {
            throw missing(pos);
        }

        @Override
        public Variant getVariant(int pos) {
            throw missing(pos);
        }

        private IllegalStateException missing(int pos) {
            return new IllegalStateException("field " + pos + " of " + getClass().getSimpleName() + " is of another type");
        }
    }

    /** A bid, its fields in the order of {@code fields}. */
    static final class Bid extends Base {
        static final int AUCTION = 0;
        static final int BIDDER = 1;
        static final int PRICE = 2;
        static final int CHANNEL = 3;
        static final int URL = 4;
        static final int TIME = 5;
        static final int EXTRA = 6;
        static final int[] ALL = {0, 1, 2, 3, 4, 5, 6};

        private final int[] fields;
        private final boolean[] wanted = new boolean[ALL.length];
        private long auction;
        private long bidder;
        private long price;
        private StringData channel;
        private StringData url;
        private TimestampData time;
        private StringData extra;

        Bid(int[] fields) {
            this.fields = fields;
            for (int field : fields) {
                wanted[field] = true;
            }
        }

        /** Makes the fields that are wanted. */
        void set(Model model, long n, long round, long place) {
            if (wanted[AUCTION]) {
                auction = Model.bidAuction(n, round, place, Bids.AUCTION);
            }
            if (wanted[BIDDER]) {
                bidder = Model.bidBidder(n, round, place, Bids.BIDDER);
            }
            if (wanted[PRICE]) {
                price = Bids.price(n);
            }
            if (wanted[CHANNEL] || wanted[URL]) {
                int c = Bids.channel(n);
                channel = Bids.channelName(c);
                url = Bids.channelUrl(c);
            }
            if (wanted[TIME]) {
                time = TimestampData.fromEpochMillis(model.timeMs(n));
            }
            if (wanted[EXTRA]) {
                extra = Bids.extra(n);
            }
        }

        @Override
        public int getArity() {
            return fields.length;
        }

        @Override
        public boolean isNullAt(int pos) {
            return false;
        }

        @Override
        public long getLong(int pos) {
            switch (fields[pos]) {
                case AUCTION:
                    return auction;
                case BIDDER:
                    return bidder;
                case PRICE:
                    return price;
                default:
                    return super.getLong(pos);
            }
        }

        @Override
        public StringData getString(int pos) {
            switch (fields[pos]) {
                case CHANNEL:
                    return channel;
                case URL:
                    return url;
                case EXTRA:
                    return extra;
                default:
                    return super.getString(pos);
            }
        }

        @Override
        public TimestampData getTimestamp(int pos, int precision) {
            return time;
        }
    }

    /** Any event: its type, and a person, an auction or a bid. */
    static final class Event extends Base {
        private int type;
        private RowData other;
        private final Bid bid = new Bid(Bid.ALL);

        void set(Model model, long n, long round, long place) {
            type = Model.kind(place);
            switch (type) {
                case Model.BID:
                    bid.set(model, n, round, place);
                    break;
                case Model.AUCTION:
                    other = OtherEvents.auction(model, n, round, place);
                    break;
                default:
                    other = OtherEvents.person(model, n, round, place);
            }
        }

        @Override
        public int getArity() {
            return 4;
        }

        @Override
        public boolean isNullAt(int pos) {
            return pos != 0 && pos - 1 != type;
        }

        @Override
        public int getInt(int pos) {
            return type;
        }

        @Override
        public RowData getRow(int pos, int fields) {
            return isNullAt(pos) ? null : type == Model.BID ? bid : other;
        }
    }
}
