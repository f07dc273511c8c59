package witness

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
)

const (
	// witnessTime is how long a witness has to cosign a checkpoint, all calls that it takes together.
	witnessTime = 5 * time.Second
	// witnessCalls is how often one is called for one checkpoint: other servers move what it has seen meanwhile.
	witnessCalls = 4
	// witnessAnswer bounds an answer, in bytes: room for sixteen signatures that are ML-DSA-44.
	witnessAnswer = 64 << 10
	// clockAhead is how far the clock of a witness may be ahead, and clockBehind how old a cosignature may be that it gives.
	clockAhead, clockBehind = 5 * time.Minute, 24 * time.Hour
)

// Witness is somebody else who follows the log (C2SP tlog-witness): it has seen one tree grow, says so with a cosignature
// on each checkpoint that it is shown (C2SP tlog-cosignature), and signs nothing that is not consistent with
// what it has seen. It is safe for concurrent use.
type Witness struct {
	verifier note.Verifier
	key      string // in the encoding of signed notes
	address  string
	client   *http.Client
	patience time.Duration // for one checkpoint

	turn  chan struct{} // one call at a time
	known int64         // the size that it has seen, as far as this server knows; whoever has the turn may use it

	guard   sync.Mutex
	trouble string // the outcome and kind of the last that was told; "" while it cosigns
}

// ParseWitnesses reads witnesses: each is its verifier key (Ed25519 or ML-DSA-44), a space, and the prefix of its
// addresses. Every one must have another name, key and address, so that none counts twice.
func ParseWitnesses(list []string) ([]*Witness, error) {
	var witnesses []*Witness
	taken := map[string]bool{}
	for i, text := range list {
		fields := strings.Fields(text)
		if len(fields) != 2 {
			return nil, fmt.Errorf("witness %d must be a verifier key, a space and an address", i+1)
		}
		w, err := parseWitness(fields[0], fields[1])
		if err != nil {
			return nil, fmt.Errorf("witness %d: %w", i+1, err)
		}
		public := strings.SplitN(w.key, "+", 3)[2] // of name+hash+key, and base64 has a + too
		for _, unique := range []string{"name " + w.Name(), "key " + public, "address " + w.address} {
			if taken[unique] {
				return nil, fmt.Errorf("witness %d has the name, the key or the address of one before", i+1)
			}
			taken[unique] = true
		}
		witnesses = append(witnesses, w)
	}
	return witnesses, nil
}

func parseWitness(key, address string) (*Witness, error) {
	if cosigning, err := formats.VKeyToCosignatureV1(key); err == nil {
		key = cosigning // some witnesses announce the key as one for signatures
	}
	verifier, err := formats.NewVerifierForCosignatureV1(key)
	if err != nil || !strings.HasPrefix(key, fmt.Sprintf("%s+%08x+", verifier.Name(), verifier.KeyHash())) {
		return nil, errors.New("its verifier key must be one for Ed25519 or ML-DSA-44 cosignatures, as name+hash+key")
	}
	at, err := url.Parse(address)
	if err != nil || !safe(at) || at.RawQuery != "" || at.Fragment != "" {
		return nil, errors.New("its address must be https, such as https://witness.example/")
	}
	return &Witness{
		verifier: verifier, key: key, address: at.JoinPath("add-checkpoint").String(), client: client(witnessTime), patience: witnessTime, turn: make(chan struct{}, 1),
	}, nil
}

// Name is the name of the witness's key.
func (w *Witness) Name() string { return w.verifier.Name() }

// Verifier is the witness's verifier key for cosignatures, in the encoding of signed notes: it is public.
func (w *Witness) Verifier() string { return w.key }

// ID names the key on record: its name, a plus sign, and its hash.
func (w *Witness) ID() string { return fmt.Sprintf("%s+%08x", w.verifier.Name(), w.verifier.KeyHash()) }

// Cosignature is what a witness signed.
type Cosignature struct {
	Witness string // see [Witness.ID]
	Line    []byte // of the signed note, with its newline
}

// trouble is why a witness did not cosign: the outcome for the metrics, and what to say. One that lasts is said once, and
// known by its kind: what it says besides may be a time or a size, which is another at each checkpoint.
type trouble struct {
	outcome string
	kind    string
	error
}

func (t *trouble) Unwrap() error { return t.error }

func troubled(outcome, format string, args ...any) error {
	return &trouble{outcome, format, fmt.Errorf(format, args...)}
}

func nonsense(format string, args ...any) error { return troubled("nonsense", format, args...) }

// unreached is a call that came to nothing; its text is of few kinds, see [away].
func unreached(err error) error {
	err = away(err)
	return &trouble{"away", err.Error(), err}
}

// overtaken is the outcome where nothing is wrong: a newer checkpoint was cosigned, or is just now.
const overtaken = "overtaken"

// aheadError says that a witness has seen more leaves than the checkpoint has that it is asked for.
type aheadError struct {
	seen, size int64
	overtaken  bool // the log has as many: another server has shown it a newer checkpoint
}

func (e *aheadError) Error() string {
	return fmt.Sprintf("it has seen %d leaves, and the checkpoint has %d", e.seen, e.size)
}

// errNotAsked says that nobody waits any longer for a witness that is still busy with what it was asked before.
var errNotAsked = errors.New("it is busy")

// take takes the turn of a witness that is not busy, and tells whether it did.
func (w *Witness) take() bool {
	select {
	case w.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

// await waits for the turn of a witness that is busy, as long as turn lasts.
func (w *Witness) await(turn context.Context) error {
	select {
	case w.turn <- struct{}{}:
	case <-turn.Done():
		return errNotAsked
	}
	if turn.Err() != nil {
		w.leave()
		return errNotAsked
	}
	return nil
}

// leave gives the turn back.
func (w *Witness) leave() { <-w.turn }

// cosign has a checkpoint cosigned, which has signatures of the log alone. The caller has the turn. The calls have their
// own deadline, so that a cosignature that nobody waits for any longer is not lost.
func (w *Witness) cosign(ctx context.Context, log Log, head Head, signed []byte) (Cosignature, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.patience)
	defer cancel()
	for range witnessCalls {
		old := min(w.known, head.Size)
		status, contentType, answer, err := w.add(ctx, log, old, head, signed)
		if err != nil {
			return Cosignature{}, err
		}
		switch {
		case status == http.StatusOK:
			line, err := w.read(signed, answer, time.Now())
			if err != nil {
				return Cosignature{}, err
			}
			w.known = head.Size
			return Cosignature{w.ID(), line}, nil
		case status == http.StatusConflict:
			seen, err := readSize(contentType, answer)
			switch {
			case err != nil:
				return Cosignature{}, err
			case seen == old:
				return Cosignature{}, nonsense("it refuses a proof from %d leaves, and says that it has seen so many", old)
			}
			if w.known = seen; seen > head.Size {
				size, err := log.Size(ctx)
				if err == nil && size >= seen {
					return Cosignature{}, &trouble{overtaken, overtaken, &aheadError{seen, head.Size, true}}
				}
				return Cosignature{}, &trouble{"ahead", "ahead", &aheadError{seen, head.Size, false}}
			}
		case status == http.StatusNotFound:
			return Cosignature{}, troubled("refused", "it does not know the log (404): its operator must add it")
		case status == http.StatusForbidden:
			return Cosignature{}, troubled("refused", "it knows none of the log's keys, or another one (403): its operator must add them")
		case status == http.StatusUnprocessableEntity:
			// What it has seen is forgotten, so that the next call learns it anew.
			w.known = 0
			return Cosignature{}, troubled("refused", "it has seen another tree (422): no proof leads from its %d leaves to these %d", old, head.Size)
		case status == http.StatusTooManyRequests || status >= 500:
			return Cosignature{}, troubled("away", "it answered %d", status)
		default:
			return Cosignature{}, nonsense("it answered %d", status)
		}
	}
	return Cosignature{}, troubled("away", "others show it checkpoints faster than it can be asked")
}

// add calls add-checkpoint once.
func (w *Witness) add(ctx context.Context, log Log, old int64, head Head, signed []byte) (status int, contentType string, answer []byte, err error) {
	body := fmt.Appendf(nil, "old %d\n", old)
	if old > 0 && old < head.Size {
		proof, err := log.Prove(ctx, head.Size, old)
		if err != nil {
			return 0, "", nil, troubled("away", "prove to it that the log grew: %w", err)
		}
		for _, hash := range proof {
			body = append(base64.StdEncoding.AppendEncode(body, hash[:]), '\n')
		}
	}
	body = append(append(body, '\n'), signed...)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.address, bytes.NewReader(body))
	if err != nil {
		return 0, "", nil, troubled("away", "its address cannot be called")
	}
	request.Header.Set("Content-Type", "text/plain; charset=utf-8")
	response, err := w.client.Do(request)
	if err != nil {
		return 0, "", nil, unreached(err)
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, witnessAnswer+1))
	switch {
	case err != nil:
		return 0, "", nil, unreached(err)
	case len(answer) > witnessAnswer:
		return 0, "", nil, nonsense("it answered more than %d bytes", witnessAnswer)
	}
	return response.StatusCode, response.Header.Get("Content-Type"), answer, nil
}

// readSize reads what a witness has seen.
func readSize(contentType string, answer []byte) (int64, error) {
	kind, _, err := mime.ParseMediaType(contentType)
	digits, ended := strings.CutSuffix(string(answer), "\n")
	if err == nil && kind == "text/x.tlog.size" && ended {
		size, err := strconv.ParseInt(digits, 10, 64)
		if err == nil && size >= 0 && strconv.FormatInt(size, 10) == digits {
			return size, nil
		}
	}
	return 0, nonsense("it refused a checkpoint and did not say what it has seen")
}

const signatureMark = "— "

// read finds the witness's cosignature in an answer, and believes it only by its key: the signature is over the
// checkpoint's text, the log's origin, size and root, with the time of the witness's clock.
func (w *Witness) read(signed, answer []byte, now time.Time) ([]byte, error) {
	if len(answer) == 0 || answer[len(answer)-1] != '\n' {
		return nil, nonsense("it answered no signature lines")
	}
	for line := range bytes.Lines(answer) {
		if !bytes.HasPrefix(line, []byte(signatureMark)) {
			return nil, nonsense("it answered a line that is no signature")
		}
	}
	opened, err := note.Open(append(bytes.Clone(signed), answer...), note.VerifierList(w.verifier))
	if err != nil {
		return nil, nonsense("what it answered has no valid cosignature by its key")
	}
	signature := opened.Sigs[0]
	at, err := formats.CoSigV1Timestamp(signature)
	if err != nil || at.Unix() <= 0 {
		return nil, nonsense("its cosignature has no time")
	}
	if at.After(now.Add(clockAhead)) || at.Before(now.Add(-clockBehind)) {
		return nil, nonsense("its cosignature is of %s, and it is %s", at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return fmt.Appendf(nil, "%s%s %s\n", signatureMark, signature.Name, signature.Base64), nil
}

// tell says what became of a witness, and whether that is news.
func (w *Witness) tell(err error) (outcome string, news bool) {
	w.guard.Lock()
	defer w.guard.Unlock()
	outcome, now := "cosigned", ""
	if err != nil {
		outcome, now = "away", err.Error()
		if t, ok := errors.AsType[*trouble](err); ok {
			outcome, now = t.outcome, t.outcome+" "+t.kind
		}
		if outcome == overtaken {
			return outcome, false
		}
	}
	news, w.trouble = now != w.trouble, now
	return outcome, news
}

// bare gives a checkpoint without the signatures of others than the log.
func bare(origin string, signed []byte) []byte {
	text, signatures, _ := bytes.Cut(signed, []byte("\n\n"))
	kept := append(bytes.Clone(text), "\n\n"...)
	for line := range bytes.Lines(signatures) {
		if bytes.HasPrefix(line, []byte(signatureMark+origin+" ")) {
			kept = append(kept, line...)
		}
	}
	return kept
}
