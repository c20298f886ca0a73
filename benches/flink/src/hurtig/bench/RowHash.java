package hurtig.bench;

import java.io.Serializable;
import java.util.List;
import org.apache.flink.core.memory.MemorySegment;
import org.apache.flink.table.data.DecimalData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.binary.BinaryStringData;
import org.apache.flink.table.types.logical.DecimalType;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.LogicalTypeRoot;
import org.apache.flink.table.types.logical.TimestampType;

/** The hash of a result's row: hurtig/src/cli/bench/checksum.rs in Java. */
final class RowHash implements Serializable {
    private static final long serialVersionUID = 1;
    private static final long START = 0x243f6a8885a308d3L;
    private static final long NULL = 0x9ae16a3b2f90404fL;

    private final LogicalTypeRoot[] types;
    private final int[] precisions;
    private final int[] scales;

    RowHash(List<LogicalType> columns) {
        types = new LogicalTypeRoot[columns.size()];
        precisions = new int[types.length];
        scales = new int[types.length];
        for (int i = 0; i < types.length; i++) {
            LogicalType type = columns.get(i);
            types[i] = type.getTypeRoot();
            switch (types[i]) {
                case INTEGER:
                case BIGINT:
                case VARCHAR:
                    break;
                case DECIMAL:
                    precisions[i] = ((DecimalType) type).getPrecision();
                    scales[i] = ((DecimalType) type).getScale();
                    break;
                case TIMESTAMP_WITHOUT_TIME_ZONE:
                    precisions[i] = ((TimestampType) type).getPrecision();
                    break;
                default:
                    throw new IllegalArgumentException("the checksum knows no columns of type " + type);
            }
        }
    }

    private static long mix(long h, long value) {
        h = (h ^ value) * 0x9e3779b97f4a7c15L;
        return h ^ (h >>> 32);
    }

    private static long mixText(long h, BinaryStringData text) {
        text.ensureMaterialized();
        int length = text.getSizeInBytes();
        h = mix(h, length);
        MemorySegment[] segments = text.getSegments();
        if (segments.length != 1) {
            byte[] bytes = text.toBytes();
            return mixBytes(h, org.apache.flink.core.memory.MemorySegmentFactory.wrap(bytes), 0, length);
        }
        return mixBytes(h, segments[0], text.getOffset(), length);
    }

    private static long mixBytes(long h, MemorySegment segment, int offset, int length) {
        int whole = length & ~7;
        for (int at = 0; at < whole; at += 8) {
            h = mix(h, segment.getLongLittleEndian(offset + at));
        }
        if (whole < length) {
            long tail = 0;
            for (int at = length - 1; at >= whole; at--) {
                tail = tail << 8 | (segment.get(offset + at) & 0xff);
            }
            h = mix(h, tail);
        }
        return h;
    }

    long hash(RowData row) {
        long h = START;
        for (int i = 0; i < types.length; i++) {
            if (row.isNullAt(i)) {
                h = mix(h, NULL);
                continue;
            }
            switch (types[i]) {
                case INTEGER:
                    h = mix(h, row.getInt(i));
                    break;
                case BIGINT:
                    h = mix(h, row.getLong(i));
                    break;
                case VARCHAR:
                    h = mixText(h, (BinaryStringData) row.getString(i));
                    break;
                case DECIMAL:
                    DecimalData decimal = row.getDecimal(i, precisions[i], scales[i]);
                    h = mix(h, decimal.isCompact() ? decimal.toUnscaledLong()
                            : decimal.toBigDecimal().unscaledValue().longValue());
                    break;
                default:
                    h = mix(h, row.getTimestamp(i, precisions[i]).getMillisecond());
            }
        }
        return h;
    }
}
