package tiles

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/store"
)

// Prefix is where the log is, below the server's address.
const Prefix = "/log/"

const (
	// height of a tile in levels; a full one has 256 hashes, and a full bundle 256 entries.
	height = 8
	// maxPath bounds a path. The longest there is has seven groups of digits.
	maxPath = 64
)

// Handler serves one log. It is safe for concurrent use.
type Handler struct {
	store     *store.Store
	verifiers []byte
	log       *slog.Logger
}

// New makes a Handler for the log in a store. verifiers are its public keys, which it announces.
func New(s *store.Store, verifiers []string, log *slog.Logger) *Handler {
	return &Handler{store: s, verifiers: []byte(strings.Join(verifiers, "\n") + "\n"), log: log}
}

// ServeHTTP answers
//
//	/log/checkpoint                 the newest checkpoint, a signed note; 404 before the first
//	/log/tile/<L>/<N>[.p/<W>]       the tile N of level L, whole or its first W hashes
//	/log/tile/entries/<N>[.p/<W>]   the bundle of entries N, whole or its first W entries
//	/log/verifier-keys              the keys that sign checkpoints, one a line; not part of tlog-tiles
//
// A tile that is not published yet is a 404; a path that no tile can have is a 400.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	// It is for everybody, pages of others included.
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	path := strings.TrimPrefix(r.URL.EscapedPath(), Prefix)
	switch {
	case path == "checkpoint":
		h.checkpoint(w, r)
	case path == "verifier-keys":
		send(w, "text/plain; charset=utf-8", h.verifiers)
	case strings.HasPrefix(path, "tile/"):
		h.tile(w, r, path)
	default:
		http.Error(w, "The log has a checkpoint, tiles, entries and verifier-keys.", http.StatusNotFound)
	}
}

func send(w http.ResponseWriter, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) //nolint:gosec // never HTML: every caller names another type, and nosniff is set for all answers
}

func (h *Handler) checkpoint(w http.ResponseWriter, r *http.Request) {
	newest, err := h.store.NewestCheckpoint(r.Context())
	if errors.Is(err, store.ErrNotFound) {
		http.Error(w, "Nothing is published yet.", http.StatusNotFound)
		return
	}
	if err != nil {
		h.fail(w, r, err)
		return
	}
	send(w, "text/plain; charset=utf-8", newest.Note)
}

func (h *Handler) tile(w http.ResponseWriter, r *http.Request, path string) {
	tile, ok := parse(path)
	if !ok {
		http.Error(w, "No tile has this path: it is tile/<L>/<N> or tile/entries/<N>, whole or with .p/<W>.", http.StatusBadRequest)
		return
	}
	newest, err := h.store.NewestCheckpoint(r.Context())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		h.fail(w, r, err)
		return
	}
	nodes := newest.Size >> (height * max(tile.L, 0)) // at the tile's lowest level
	if tile.N > nodes>>height || tile.N<<height+int64(tile.W) > nodes {
		http.Error(w, "This is not published yet.", http.StatusNotFound)
		return
	}
	body, err := h.read(r, tile)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	// What it says of its leaves never changes; a partial one is replaced by a wider one in time.
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	send(w, "application/octet-stream", body)
}

// parse reads a path as tlog-tiles writes it. Those of [tlog.Tile] name the height as well, and the bundles "data"; a
// bundle is the level -1. Paths in any other spelling are refused.
func parse(path string) (tlog.Tile, bool) {
	if len(path) > maxPath {
		return tlog.Tile{}, false
	}
	rest := strings.TrimPrefix(path, "tile/")
	if number, isBundle := strings.CutPrefix(rest, "entries/"); isBundle {
		rest = "data/" + number
	} else if strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, false
	}
	tile, err := tlog.ParseTilePath("tile/" + strconv.Itoa(height) + "/" + rest)
	return tile, err == nil && tile.L < 64
}

func (h *Handler) read(r *http.Request, tile tlog.Tile) ([]byte, error) {
	if tile.L >= 0 {
		return tlog.ReadTileData(tile, h.store.Tree(r.Context()))
	}
	entries, err := h.store.Entries(r.Context(), tile.N<<height, tile.W)
	if err != nil {
		return nil, err
	}
	var bundle []byte
	for _, entry := range entries {
		if len(entry) > 1<<16-1 {
			return nil, errors.New("an entry is longer than a bundle can say")
		}
		bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry))) //nolint:gosec // bounded above
		bundle = append(bundle, entry...)
	}
	return bundle, nil
}

func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil {
		h.log.ErrorContext(r.Context(), "the log cannot be read", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Retry-After", "5")
	http.Error(w, "The log cannot be read just now; try again in a moment.", http.StatusServiceUnavailable)
}
