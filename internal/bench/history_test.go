package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// fields reads the rows of a table as PostgreSQL would.
func fields(t *testing.T, table historyTable) (rows [][][]byte) {
	t.Helper()
	data, err := io.ReadAll(table.reader())
	if err != nil {
		t.Fatal(err)
	}
	const header = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	data, found := bytes.CutPrefix(data, []byte(header))
	if !found {
		t.Fatalf("no header: %q", data[:min(len(data), 30)])
	}
	for len(data) > 0 {
		row := make([][]byte, binary.BigEndian.Uint16(data))
		data = data[2:]
		for i := range row {
			n := binary.BigEndian.Uint32(data)
			row[i], data = data[4:4+n], data[4+n:]
		}
		rows = append(rows, row)
	}
	return rows
}

func TestTheTreeOfAHistoryIsTheLogs(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 70; n++ {
		var stored []tlog.Hash
		reader := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
			found := make([]tlog.Hash, len(places))
			for i, place := range places {
				found[i] = stored[place]
			}
			return found, nil
		})
		leaves, want := make([]tlog.Hash, n), 0
		for i := range leaves {
			leaves[i] = tlog.RecordHash([]byte{byte(i)})
			more, err := tlog.StoredHashesForRecordHash(int64(i), leaves[i], reader)
			if err != nil {
				t.Fatal(err)
			}
			stored, want = append(stored, more...), want+len(more)-1
		}
		rows := fields(t, treeTable(leaves))
		if len(rows) != want {
			t.Errorf("%d leaves have %d hashes above them, not %d", n, len(rows), want)
		}
		for _, row := range rows {
			level, index := int(binary.BigEndian.Uint16(row[0])), int64(binary.BigEndian.Uint64(row[1]))
			if hash := stored[tlog.StoredHashIndex(level, index)]; !bytes.Equal(row[2], hash[:]) {
				t.Errorf("%d leaves: hash %d of level %d is %x, not %x", n, index, level, row[2], hash)
			}
		}
	}
}

func TestAHistoryHasItsRows(t *testing.T) {
	t.Parallel()
	h := historyOf(0.00001)
	for _, table := range h.tables(make([]tlog.Hash, h.leaves())) {
		rows := fields(t, table)
		if len(rows) != table.rows {
			t.Errorf("%s has %d rows, not %d", table.name, len(rows), table.rows)
		}
		for _, row := range rows {
			if len(row) != len(table.columns) {
				t.Errorf("a row of %s has %d fields for %d columns", table.name, len(row), len(table.columns))
			}
		}
	}
}
