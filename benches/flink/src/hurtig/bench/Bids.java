package hurtig.bench;

import static hurtig.bench.Random.below;
import static hurtig.bench.Random.bits;

import java.io.ByteArrayOutputStream;
import org.apache.flink.table.data.StringData;

/** Values of bids: connectors/src/nexmark/bids.rs in Java. */
final class Bids {
    static final long AUCTION = 100;
    static final long BIDDER = 110;
    private static final long PRICE = 120;
    private static final long CHANNEL = 130;
    private static final long URL = 150;
    private static final long EXTRA = 140;

    private static final int FIXED_BYTES = 32;
    private static final int AVERAGE_BYTES = 100;
    private static final String[] HOT_CHANNELS = {"Google", "Facebook", "Baidu", "Apple"};
    private static final int CHANNELS = 10_000;

    private static final int STEPS = 1024;
    private static final double[] POWERS = {1e2, 1e3, 1e4, 1e5, 1e6, 1e7};
    private static final double[] PRICE_STEPS = new double[STEPS + 1];
    private static final StringData[] NAMES = new StringData[HOT_CHANNELS.length + CHANNELS];
    private static final StringData[] URLS = new StringData[HOT_CHANNELS.length + CHANNELS];

    static {
        double root = 10.0;
        for (int i = 0; i < 10; i++) {
            root = Math.sqrt(root);
        }
        PRICE_STEPS[0] = 1.0;
        for (int i = 0; i < STEPS; i++) {
            PRICE_STEPS[i + 1] = PRICE_STEPS[i] * root;
        }
        for (int i = 0; i < NAMES.length; i++) {
            int number = i - HOT_CHANNELS.length;
            NAMES[i] = StringData.fromBytes(Texts.ascii(number < 0 ? HOT_CHANNELS[i] : "channel-" + number));
            ByteArrayOutputStream url = new ByteArrayOutputStream();
            url.writeBytes(Texts.ascii("https://www.nexmark.com/"));
            for (int folder = 0; folder < 3; folder++) {
                url.writeBytes(Texts.words(i * 4L + folder, URL, 5, '_'));
                url.write('/');
            }
            url.writeBytes(Texts.ascii("item.htm?query=1"));
            if (number >= 0 && below(bits(i, URL + 5), 10) > 0) {
                url.writeBytes(Texts.ascii("&channel_id=" + Math.abs((long) Integer.reverse(number))));
            }
            URLS[i] = StringData.fromBytes(url.toByteArray());
        }
    }

    private Bids() {}

    static long priceOf(long bits) {
        int power = (int) below(bits, 6);
        double at = (double) (bits >>> 32) * (STEPS / 4_294_967_296.0);
        int step = (int) at;
        double low = PRICE_STEPS[step];
        double value = low + (PRICE_STEPS[step + 1] - low) * (at - (double) step);
        return Math.round(value * POWERS[power]);
    }

    static long price(long number) {
        return priceOf(bits(number, PRICE));
    }

    static int channel(long number) {
        long r = bits(number, CHANNEL);
        return (r & 1) == 1 ? (int) ((r >>> 1) & 3) : 4 + (int) below(r >>> 32, CHANNELS);
    }

    static StringData channelName(int channel) {
        return NAMES[channel];
    }

    static StringData channelUrl(int channel) {
        return URLS[channel];
    }

    static StringData extra(long number) {
        return Texts.extra(number, EXTRA, FIXED_BYTES, AVERAGE_BYTES);
    }
}
