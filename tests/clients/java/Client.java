// The JDK's own HttpClient at its defaults: on plain HTTP it offers an upgrade to h2c on every request, bodies included.
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.net.http.WebSocket;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class Client {
    static final HttpClient CLIENT = HttpClient.newBuilder().connectTimeout(Duration.ofSeconds(10)).build();
    static String base;

    static HttpRequest.Builder request(String path) {
        return HttpRequest.newBuilder(URI.create(base + path)).timeout(Duration.ofSeconds(60));
    }

    static void check(boolean right, String what) {
        if (!right) {
            throw new AssertionError(what);
        }
    }

    static byte[] pattern(int size) throws Exception {
        byte[] digest = MessageDigest.getInstance("SHA-256").digest("piece".getBytes());
        byte[] data = new byte[size];
        for (int i = 0; i < size; i++) {
            data[i] = digest[i % digest.length];
        }
        return data;
    }

    static void checkEcho(HttpResponse<String> response, String method, byte[] body) throws Exception {
        check(response.statusCode() == 200, method + " " + response.statusCode() + " " + response.body());
        String seen = response.body();
        String sum = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(body));
        check(seen.contains("\"method\": \"" + method + "\""), seen);
        check(seen.contains("\"length\": " + body.length + ","), seen);
        check(seen.contains("\"sha256\": \"" + sum + "\""), seen);
        check(seen.contains("\"authorization\": [\"Bearer token-1\"]"), seen);
        check(!seen.contains("h2c") && !seen.contains("http2-settings") && !seen.contains("\"upgrade\""), seen);
    }

    static void gets() throws Exception {
        for (int i = 0; i < 20; i++) {
            checkEcho(CLIENT.send(request("/echo?i=" + i).GET().build(), BodyHandlers.ofString()), "GET", new byte[0]);
        }
    }

    static void uploads() throws Exception {
        for (int size : new int[] {0, 1, 1000, 100_000, 3_000_000}) {
            byte[] body = pattern(size);
            checkEcho(CLIENT.send(request("/echo").POST(BodyPublishers.ofByteArray(body)).build(),
                BodyHandlers.ofString()), "POST", body);
            checkEcho(CLIENT.send(request("/echo").PUT(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body)))
                .build(), BodyHandlers.ofString()), "PUT", body);
        }
        byte[] body = pattern(50_000);
        checkEcho(CLIENT.send(request("/echo").expectContinue(true).POST(BodyPublishers.ofByteArray(body)).build(),
            BodyHandlers.ofString()), "POST", body);
        checkEcho(CLIENT.send(request("/echo").method("DELETE", BodyPublishers.ofString("why")).build(),
            BodyHandlers.ofString()), "DELETE", "why".getBytes());
    }

    static void downloads() throws Exception {
        for (int size : new int[] {0, 1, 100_000, 10_000_000}) {
            for (String query : new String[] {"", "?length"}) {
                HttpResponse<byte[]> response =
                    CLIENT.send(request("/download/" + size + query).build(), BodyHandlers.ofByteArray());
                check(response.statusCode() == 200, "download " + response.statusCode());
                check(java.util.Arrays.equals(response.body(), pattern(size)), "download of " + size + query);
            }
        }
    }

    static void together() throws Exception {
        List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            all.add(CLIENT.sendAsync(request("/echo").POST(BodyPublishers.ofByteArray(pattern(i * 37))).build(),
                BodyHandlers.ofString()));
        }
        for (int i = 0; i < 100; i++) {
            checkEcho(all.get(i).get(60, TimeUnit.SECONDS), "POST", pattern(i * 37));
        }
    }

    static class Listener implements WebSocket.Listener {
        final LinkedBlockingQueue<String> messages = new LinkedBlockingQueue<>();
        final StringBuilder text = new StringBuilder();
        int bytes;

        @Override
        public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
            text.append(data);
            if (last) {
                messages.add(text.toString());
                text.setLength(0);
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onBinary(WebSocket socket, ByteBuffer data, boolean last) {
            bytes += data.remaining();
            if (last) {
                messages.add("bytes " + bytes);
                bytes = 0;
            }
            socket.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket socket, int code, String reason) {
            messages.add("closed " + code + " " + reason);
            return null;
        }

        @Override
        public void onError(WebSocket socket, Throwable error) {
            messages.add("error " + error);
        }

        void expect(String message) throws Exception {
            String got = messages.poll(20, TimeUnit.SECONDS);
            check(message.equals(got), "WebSocket: " + got + " instead of " + message);
        }
    }

    static void webSocket() throws Exception {
        Listener listener = new Listener();
        URI uri = URI.create(base.replaceFirst("http", "ws") + "/ws");
        WebSocket socket = CLIENT.newWebSocketBuilder().buildAsync(uri, listener).get(20, TimeUnit.SECONDS);
        listener.expect("Bearer token-1");
        socket.sendText("hello", true).get(20, TimeUnit.SECONDS);
        listener.expect("hello");
        socket.sendBinary(ByteBuffer.wrap(pattern(300_000)), true).get(20, TimeUnit.SECONDS);
        listener.expect("bytes 300000");
        socket.sendText("close", true).get(20, TimeUnit.SECONDS);
        listener.expect("closed 4000 as told");
    }

    public static void main(String[] arguments) throws Exception {
        base = arguments[0];
        gets();
        uploads();
        downloads();
        together();
        webSocket();
        System.out.println("all right");
        System.exit(0);
    }
}
