import de.bwaldvogel.mongo.MongoBackend;
import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.ArrayFilters;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.ValueComparator;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.h2.H2Collection;
import de.bwaldvogel.mongo.backend.h2.H2Database;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.bson.ObjectId;
import de.bwaldvogel.mongo.exception.PathNotViableException;
import de.bwaldvogel.mongo.oplog.Oplog;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.channel.Channel;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;

/**
 * A quick MongoDB-speaking server for the tests: mongo-java-server, which keeps its data in a file of H2.
 *
 * One thread serves all clients, because the library changes documents in place: no answer shows one half changed.
 */
public final class Server {
    private static final int ONE_THREAD = 1;
    private static final int CACHE_MEGABYTES = 256;

    public static void main(String[] arguments) {
        if (arguments.length != 4 || !arguments[0].equals("-listen") || !arguments[2].equals("-directory")) {
            System.err.println("usage: mongo-java-server -listen HOST:PORT -directory DIRECTORY");
            System.exit(2);
        }
        String[] address = arguments[1].split(":");
        MongoServer server = new MongoServer(new Backend(open(Path.of(arguments[3]))).version(new Version()));
        server.bind(new InetSocketAddress(address[0], Integer.parseInt(address[1])), ONE_THREAD, ONE_THREAD);
    }

    /** The file is written at each command and by nobody else; space in it that became free is used again at once. */
    private static MVStore open(Path directory) {
        MVStore.Builder file = new MVStore.Builder().fileName(directory.resolve("data.h2").toString());
        MVStore store = file.autoCommitDisabled().cacheSize(CACHE_MEGABYTES).open();
        store.setRetentionTime(0);
        return store;
    }

    /** The oldest MongoDB that today's drivers speak with. */
    private static final class Version implements MongoVersion {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(4, 4, 0);
        }

        @Override
        public int getWireVersion() {
            return 9;
        }
    }

    private static final class Backend extends H2Backend {
        Backend(MVStore store) {
            super(store);
        }

        /** Drivers and administrators ask with the newer word. */
        @Override
        public Document handleCommand(Channel channel, String database, String command, Document query) {
            if (!command.equals("hello")) {
                return super.handleCommand(channel, database, command, query);
            }
            Document answer = super.handleCommand(channel, database, "ismaster", query);
            answer.put("isWritablePrimary", answer.remove("ismaster"));
            return answer;
        }

        /** What was answered is in the file: a client must find it there when this process was killed. */
        @Override
        public Document handleMessage(MongoMessage message) {
            try {
                return super.handleMessage(message);
            } finally {
                commit();
            }
        }

        @Override
        protected MongoDatabase openOrCreateDatabase(String name) {
            MVStore store = getMvStore();
            return new H2Database(name, store, getCursorRegistry()) {
                @Override
                protected MongoCollection<Object> openOrCreateCollection(String collection, CollectionOptions options) {
                    String full = getDatabaseName() + "." + collection;
                    MVMap<Object, Document> documents = store.openMap("databases." + full);
                    return new Collection(this, collection, options, documents, store.openMap("meta." + full), cursorRegistry);
                }
            };
        }
    }

    private static final class Collection extends H2Collection {
        private final MVMap<Object, Document> documents;

        Collection(
            MongoDatabase database,
            String name,
            CollectionOptions options,
            MVMap<Object, Document> documents,
            MVMap<String, Object> about,
            CursorRegistry cursors) {
            super(database, name, options, documents, about, cursors);
            this.documents = documents;
        }

        /**
         * By `_id` first, then the rest.  The library uses its index of `_id` only where nothing else is asked, so that a
         * conditional update would read all documents, and compares each that it finds with all ids of an `$in`.
         */
        @Override
        protected QueryResult queryDocuments(
            Document query, Document order, int skip, int limit, int batch, Document fields) {
            Set<Object> ids = new TreeSet<>(ValueComparator.asc());
            Object id = query.get("_id");
            if (id instanceof Document condition && condition.keySet().equals(Set.of("$in"))) {
                ids.addAll((java.util.Collection<?>) condition.get("$in"));
            } else if (id == null || id instanceof Document) {
                return super.queryDocuments(query, order, skip, limit, batch, fields);
            } else {
                ids.add(id);
            }
            Document rest = query.clone();
            rest.remove("_id");
            Stream<Document> found = ids.stream().flatMap(one -> withId(one).stream());
            return matchDocumentsFromStream(found, rest, order, skip, limit, batch, fields);
        }

        /** The index compares what it has written out, which takes ten times as long as a look at the documents' own order. */
        private List<Document> withId(Object id) {
            if (id instanceof ObjectId || id instanceof String) {
                Document found = documents.get(id);
                return found == null ? List.of() : List.of(found);
            }
            return super.queryDocuments(new Document("_id", id), null, 0, 0, 0, null).collectDocuments();
        }

        /** MongoDB refuses to set a field of a field that is null; the library would make a document of it. */
        @Override
        public synchronized Document updateDocuments(
            Document selector, Document update, ArrayFilters filters, boolean multi, boolean upsert, Oplog oplog) {
            if (update.get("$set") instanceof Document values) {
                for (Document document : queryDocuments(selector, null, 0, multi ? 0 : 1, 0, null)) {
                    values.keySet().forEach(name -> checkPath(document, name));
                }
            }
            return super.updateDocuments(selector, update, filters, multi, upsert, oplog);
        }

        private static void checkPath(Document document, String name) {
            int dot = name.indexOf('.');
            if (dot < 0 || !document.containsKey(name.substring(0, dot))) {
                return;
            }
            String first = name.substring(0, dot);
            String rest = name.substring(dot + 1);
            Object value = document.get(first);
            if (value == null) {
                throw new PathNotViableException(rest, new Document(first, null));
            }
            if (value instanceof Document inner) {
                checkPath(inner, rest);
            }
        }
    }
}
