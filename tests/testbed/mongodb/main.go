// A MongoDB-speaking server for the tests: FerretDB, embedded, over SQLite.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
	_ "modernc.org/sqlite"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	directory := flag.String("directory", "", "directory for the data")
	flag.Parse()
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: *listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + *directory + "/?_pragma=synchronous(off)",
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Println(server.MongoDBURI())
	go keepIndexed(ctx, *directory)
	if err := server.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// FerretDB 1.24 indexes `_ferretdb_sjson->"_id"` and asks for `_ferretdb_sjson->'$._id'`: every update by _id reads the whole
// collection.  An index on what it asks for makes the tests quick, and changes nothing else.
func keepIndexed(ctx context.Context, directory string) {
	for ctx.Err() == nil {
		files, _ := filepath.Glob(filepath.Join(directory, "*.sqlite"))
		for _, file := range files {
			if err := index(ctx, file); err != nil {
				fmt.Fprintln(os.Stderr, "index:", err)
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func index(ctx context.Context, file string) error {
	// mode=rw: a database that was dropped in this moment is not made anew, empty; FerretDB would not start again with it
	db, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, `SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE '%_ferretdb_sjson%'
		AND name NOT IN (SELECT tbl_name FROM sqlite_master WHERE name LIKE 'execd_by_id_%')`)
	if err != nil {
		return err
	}
	var tables []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		tables = append(tables, name)
	}
	if err := rows.Close(); err != nil {
		return err
	}
	for _, table := range tables {
		create := fmt.Sprintf(`CREATE INDEX IF NOT EXISTS %q ON %q (_ferretdb_sjson->'$._id')`, "execd_by_id_"+table, table)
		if _, err := db.ExecContext(ctx, create); err != nil {
			return err
		}
	}
	return nil
}
