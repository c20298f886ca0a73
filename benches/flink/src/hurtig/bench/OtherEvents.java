package hurtig.bench;

import static hurtig.bench.Random.below;
import static hurtig.bench.Random.belowWide;
import static hurtig.bench.Random.bits;

import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;

/** Persons and auctions, 8 % of all events: connectors/src/nexmark/{persons,auctions}.rs in Java. */
final class OtherEvents {
    private static final String[] FIRST_NAMES = {
        "Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"
    };
    private static final String[] LAST_NAMES = {
        "Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"
    };
    private static final String[] CITIES = {
        "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"
    };
    private static final String[] STATES = {"AZ", "CA", "ID", "OR", "WA", "WY"};
    private static final int PERSON_BYTES = 200;
    private static final int AUCTION_BYTES = 500;

    private OtherEvents() {}

    private static String pick(String[] values, long bits) {
        return values[(int) below(bits, values.length)];
    }

    static RowData person(Model model, long n, long round, long place) {
        long r = bits(n, 300);
        String first = pick(FIRST_NAMES, r);
        String last = pick(LAST_NAMES, r >>> 32);
        byte[] user = Texts.words(n, 310, 7, '_');
        byte[] domain = Texts.words(n, 320, 5, '_');
        byte[] email = new byte[user.length + domain.length + 5];
        System.arraycopy(user, 0, email, 0, user.length);
        email[user.length] = '@';
        System.arraycopy(domain, 0, email, user.length + 1, domain.length);
        System.arraycopy(Texts.ascii(".com"), 0, email, user.length + 1 + domain.length, 4);
        String city = pick(CITIES, bits(n, 340));
        String state = pick(STATES, bits(n, 350));
        int fixed = 8 + first.length() + last.length() + 1 + email.length + 19 + city.length() + state.length();
        return GenericRowData.of(
                Model.lastPerson(round, place) + Model.FIRST_ID,
                StringData.fromBytes(Texts.ascii(first + " " + last)),
                StringData.fromBytes(email),
                StringData.fromBytes(card(n)),
                StringData.fromBytes(Texts.ascii(city)),
                StringData.fromBytes(Texts.ascii(state)),
                TimestampData.fromEpochMillis(model.timeMs(n)),
                Texts.extra(n, 360, fixed, PERSON_BYTES));
    }

    private static byte[] card(long n) {
        long r = bits(n, 330);
        byte[] out = new byte[19];
        for (int group = 0; group < 4; group++) {
            if (group > 0) {
                out[group * 5 - 1] = ' ';
            }
            long digits = below(r, 10_000);
            r = Long.rotateLeft(r, 17) * 0x9e3779b97f4a7c15L;
            for (int i = 3; i >= 0; i--) {
                out[group * 5 + i] = (byte) ('0' + digits % 10);
                digits /= 10;
            }
        }
        return out;
    }

    static RowData auction(Model model, long n, long round, long place) {
        byte[] name = Texts.words(n, 200, 20, ' ');
        byte[] description = Texts.words(n, 210, 100, ' ');
        long initialBid = Bids.priceOf(bits(n, 220));
        long time = model.timeMs(n);
        long expires = time + 1 + belowWide(bits(n, 240), model.auctionHorizonMs(n) * 2);
        return GenericRowData.of(
                Model.lastAuction(round, place) + Model.FIRST_ID,
                StringData.fromBytes(name),
                StringData.fromBytes(description),
                initialBid,
                initialBid + Bids.priceOf(bits(n, 230)),
                TimestampData.fromEpochMillis(time),
                TimestampData.fromEpochMillis(expires),
                Model.seller(n, round, place, 250),
                Model.FIRST_CATEGORY + below(bits(n, 260), 5),
                Texts.extra(n, 270, 48 + name.length + description.length, AUCTION_BYTES));
    }
}
