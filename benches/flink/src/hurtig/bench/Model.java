package hurtig.bench;

import static hurtig.bench.Random.below;
import static hurtig.bench.Random.belowWide;
import static hurtig.bench.Random.bits;

import java.io.Serializable;

/** From the number of an event to its time and ids: connectors/src/nexmark/model.rs in Java. */
final class Model implements Serializable {
    private static final long serialVersionUID = 1;

    static final int PERSON = 0;
    static final int AUCTION = 1;
    static final int BID = 2;

    static final long PERSONS = 1;
    static final long AUCTIONS = 3;
    static final long BIDS = 46;
    static final long ROUND = PERSONS + AUCTIONS + BIDS;

    static final long FIRST_ID = 1000;
    static final long FIRST_CATEGORY = 10;
    private static final long ACTIVE_PERSONS = 1000;
    private static final long ID_LEAD = 10;
    private static final long OPEN_AUCTIONS = 100;
    private static final long HOT_STEP = 100;
    private static final long HOT_AUCTIONS = 2;
    private static final long HOT_BIDDERS = 4;
    private static final long HOT_SELLERS = 4;

    final long baseTimeMs;
    private final double msPerEvent;

    Model(long baseTimeMs, long eventsPerSecond) {
        this.baseTimeMs = baseTimeMs;
        this.msPerEvent = 1000.0 / (double) eventsPerSecond;
    }

    static int kind(long place) {
        return place < PERSONS ? PERSON : place < PERSONS + AUCTIONS ? AUCTION : BID;
    }

    long timeMs(long number) {
        return baseTimeMs + (long) ((double) number * msPerEvent);
    }

    static long lastPerson(long round, long place) {
        return round * PERSONS + Math.min(place, PERSONS - 1);
    }

    static long lastAuction(long round, long place) {
        if (place < PERSONS) {
            return Math.max(round * AUCTIONS - 1, 0);
        }
        return round * AUCTIONS + Math.min(place - PERSONS, AUCTIONS - 1);
    }

    private static long anyPerson(long bits, long last) {
        long persons = last + 1;
        long active = Math.min(persons, ACTIVE_PERSONS);
        return persons - active + belowWide(bits, active + ID_LEAD);
    }

    private static long anyAuction(long bits, long last) {
        long first = Math.max(last - OPEN_AUCTIONS, 0);
        return first + belowWide(bits, last - first + 1 + ID_LEAD);
    }

    static long bidAuction(long number, long round, long place, long stream) {
        long last = lastAuction(round, place);
        long auction = below(bits(number, stream), HOT_AUCTIONS) > 0
                ? last / HOT_STEP * HOT_STEP
                : anyAuction(bits(number, stream + 1), last);
        return auction + FIRST_ID;
    }

    static long bidBidder(long number, long round, long place, long stream) {
        long last = lastPerson(round, place);
        long person = below(bits(number, stream), HOT_BIDDERS) > 0
                ? last / HOT_STEP * HOT_STEP + 1
                : anyPerson(bits(number, stream + 1), last);
        return person + FIRST_ID;
    }

    static long seller(long number, long round, long place, long stream) {
        long last = lastPerson(round, place);
        long person = below(bits(number, stream), HOT_SELLERS) > 0
                ? last / HOT_STEP * HOT_STEP
                : anyPerson(bits(number, stream + 1), last);
        return person + FIRST_ID;
    }

    long auctionHorizonMs(long number) {
        long events = OPEN_AUCTIONS * ROUND / AUCTIONS;
        return Math.max(timeMs(number + events) - timeMs(number), 1);
    }
}
