package hurtig.bench;

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.nio.charset.StandardCharsets;
import java.time.LocalDateTime;
import java.time.ZoneOffset;
import java.time.format.DateTimeFormatter;
import org.apache.flink.table.data.RowData;

/**
 * Prints the first events as JSON lines, so that they can be compared with those of {@code hurtig bench nexmark}.
 *
 * <p>Arguments: how many events, events a second of event time.
 */
public final class PrintEvents {
    private static final String[] PERSON = {
        "id", "name", "emailAddress", "creditCard", "city", "state", "dateTime", "extra"
    };
    private static final String PERSON_TYPES = "ISSSSSTS";
    private static final String[] AUCTION = {
        "id", "itemName", "description", "initialBid", "reserve", "dateTime", "expires", "seller", "category", "extra"
    };
    private static final String AUCTION_TYPES = "ISSIITTIIS";
    private static final String[] BID = {"auction", "bidder", "price", "channel", "url", "dateTime", "extra"};
    private static final String BID_TYPES = "IIISSTS";

    private static final DateTimeFormatter TIMES = DateTimeFormatter.ofPattern("yyyy-MM-dd HH:mm:ss.SSS");

    private PrintEvents() {}

    public static void main(String[] args) throws IOException {
        long events = Long.parseLong(args[0]);
        Model model = new Model(1436918400000L, Long.parseLong(args[1]));
        Rows.Event event = new Rows.Event();
        try (BufferedWriter out =
                new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8), 1 << 20)) {
            for (long n = 0; n < events; n++) {
                long round = n / Model.ROUND;
                event.set(model, n, round, n - round * Model.ROUND);
                StringBuilder line = new StringBuilder("{\"event_type\":").append(event.getInt(0));
                put(line, ",\"person\":", event, 1, PERSON, PERSON_TYPES);
                put(line, ",\"auction\":", event, 2, AUCTION, AUCTION_TYPES);
                put(line, ",\"bid\":", event, 3, BID, BID_TYPES);
                out.write(line.append("}\n").toString());
            }
        }
    }

    private static void put(StringBuilder line, String label, Rows.Event event, int pos, String[] names, String types) {
        line.append(label);
        RowData row = event.getRow(pos, names.length);
        if (row == null) {
            line.append("null");
            return;
        }
        for (int i = 0; i < names.length; i++) {
            line.append(i == 0 ? '{' : ',').append('"').append(names[i]).append("\":");
            switch (types.charAt(i)) {
                case 'I':
                    line.append(row.getLong(i));
                    break;
                case 'T':
                    LocalDateTime time = LocalDateTime.ofEpochSecond(0, 0, ZoneOffset.UTC)
                            .plusNanos(row.getTimestamp(i, 3).getMillisecond() * 1_000_000);
                    line.append('"').append(TIMES.format(time)).append('"');
                    break;
                default:
                    line.append('"').append(row.getString(i)).append('"');
            }
        }
        line.append('}');
    }
}
