package hurtig.bench;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.flink.core.execution.JobClient;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.graph.StreamGraph;
import org.apache.flink.table.api.bridge.java.StreamStatementSet;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;

/**
 * The main program of the application: plans a script whose last statement is an INSERT, waits for the slots, and runs it.
 * Prints {@code started} and {@code finished ID SECONDS} for the program that measures.
 *
 * <p>Arguments: the script (statements separated by lines with nothing but a semicolon), the REST port, slots to wait for.
 */
public final class RunQuery {
    private static final Pattern SLOTS = Pattern.compile("\"slots-available\":(\\d+)");

    private RunQuery() {}

    public static void main(String[] args) throws Exception {
        String[] statements = Files.readString(Path.of(args[0])).split("\n;\n");
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
        StreamTableEnvironment tables = StreamTableEnvironment.create(environment);
        for (int i = 0; i < statements.length - 1; i++) {
            tables.executeSql(statements[i]);
        }
        StreamStatementSet set = tables.createStatementSet();
        set.addInsertSql(statements[statements.length - 1]);
        if (Boolean.getBoolean("hurtig.bench.explain")) {
            say(set.explain());
        }
        set.attachAsDataStream();
        StreamGraph graph = environment.getStreamGraph();
        graph.setJobName("nexmark");
        awaitSlots(args[1], Integer.parseInt(args[2]));
        say("started");
        long start = System.nanoTime();
        JobClient client = environment.executeAsync(graph);
        client.getJobExecutionResult().get();
        say(String.format("finished %s %.6f", client.getJobID(), (System.nanoTime() - start) / 1e9));
    }

    private static void awaitSlots(String port, int wanted) throws IOException, InterruptedException {
        HttpClient http = HttpClient.newHttpClient();
        HttpRequest overview = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + "/overview")).build();
        while (true) {
            Matcher slots = SLOTS.matcher(http.send(overview, HttpResponse.BodyHandlers.ofString()).body());
            if (slots.find() && Integer.parseInt(slots.group(1)) >= wanted) {
                return;
            }
            Thread.sleep(50);
        }
    }

    private static void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
