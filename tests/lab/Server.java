// The HTTP server that the JDK comes with, on a dual-stack socket as Java opens it: IPv4 peers have mapped addresses.
// `/throw` fails by an exception that the handler does not catch, whatever is unread by then.
// Usage: java Server.java HOST PORT
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

class Server {
    private static final byte[] HELLO = "hello\n".getBytes();

    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        var server = HttpServer.create(address, 0);
        server.createContext("/", exchange -> {
            exchange.sendResponseHeaders(200, HELLO.length);
            exchange.getResponseBody().write(HELLO);
            exchange.close();
        });
        server.createContext("/throw", exchange -> {
            throw new IllegalStateException("nobody catches this");
        });
        server.setExecutor(Executors.newCachedThreadPool());
        server.start();
    }
}
