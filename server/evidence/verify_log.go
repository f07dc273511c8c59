package evidence

import (
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/transparency-dev/formats/log"
	formats "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// emptyTree is the root of a log without leaves: SHA-256 of nothing.
const emptyTree Digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// maxCheckpoint is the limit of a signed note in bytes.
const maxCheckpoint = 64 << 10

// Checkpoint is what a log says about itself at a time.
type Checkpoint struct {
	// Origin is the log's name.
	Origin string
	// Tree is the number of its leaves and their root.
	tlog.Tree
	// Witnesses is how many of the witnesses that were asked about have cosigned.
	Witnesses int
}

// OpenCheckpoint reads a signed note (C2SP tlog-checkpoint) without extension
// lines. With anchor, it must be of that log and signed by one of its keys; with
// witnesses, as many of them as their quorum must have cosigned it. The refusals
// are [CodeLog], [CodeWitness], and [CodeInvalid] for keys that are none.
func OpenCheckpoint(signed []byte, anchor *LogAnchor, witnesses *WitnessPolicy) (Checkpoint, error) {
	c, err := readCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, err
	}
	if anchor != nil {
		if err := anchor.signed(signed, c); err != nil {
			return Checkpoint{}, err
		}
	}
	if witnesses != nil {
		c.Witnesses, err = witnesses.cosigned(signed)
	}
	return c, err
}

// readCheckpoint reads a note without looking at its signatures.
func readCheckpoint(signed []byte) (Checkpoint, error) {
	bad := refuse(CodeLog, "the checkpoint is not a signed note of three lines: origin, size and root")
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, bad
	}
	var text string
	switch opened, err := note.Open(signed, note.VerifierList()); err := err.(type) { //nolint:errorlint // the note is in this very error
	case nil:
		text = opened.Text
	case *note.UnverifiedNoteError:
		text = err.Note.Text
	default:
		return Checkpoint{}, bad
	}
	var c log.Checkpoint
	if _, err := c.Unmarshal([]byte(text)); err != nil || string(c.Marshal()) != text || len(c.Hash) != tlog.HashSize || c.Size >= maxSafe || !logForm.MatchString(c.Origin) {
		return Checkpoint{}, bad
	}
	return Checkpoint{Origin: c.Origin, Tree: tlog.Tree{N: int64(c.Size), Hash: tlog.Hash(c.Hash)}}, nil
}

// signed checks that the log of the anchor signed a checkpoint.
func (a LogAnchor) signed(signed []byte, c Checkpoint) error {
	if c.Origin != a.Origin {
		return refuse(CodeLog, "the checkpoint is of the log %q, not of the one that is an anchor", c.Origin)
	}
	keys, err := verifierKeys(a.Keys, formats.NewVerifier)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(keys, func(key note.Verifier) bool { return signedBy(signed, key) }) {
		return refuse(CodeLog, "no key of the log that is an anchor has signed the checkpoint")
	}
	return nil
}

// cosigned counts the witnesses of the policy that cosigned a checkpoint.
func (p WitnessPolicy) cosigned(signed []byte) (int, error) {
	keys, err := p.verifiers()
	if err != nil {
		return 0, err
	}
	n := 0
	// All at once, where no line is bad.
	if opened, err := note.Open(signed, note.VerifierList(keys...)); err == nil {
		n = len(opened.Sigs)
	} else {
		for _, key := range keys {
			if signedBy(signed, key) {
				n++
			}
		}
	}
	if n < p.Quorum {
		return n, refuse(CodeWitness, "%d of %d witnesses have cosigned the checkpoint, and %d have to", n, len(keys), p.Quorum)
	}
	return n, nil
}

func (p WitnessPolicy) verifiers() ([]note.Verifier, error) {
	keys, err := verifierKeys(p.Keys, formats.NewVerifierForCosignatureV1)
	if err == nil && (p.Quorum < 0 || p.Quorum > len(keys)) {
		err = refuse(CodeInvalid, "a quorum of %d out of %d witnesses cannot be", p.Quorum, len(keys))
	}
	return keys, err
}

// signedBy looks for one signature alone, so that a bad one takes nothing from
// the good ones beside it.
func signedBy(signed []byte, key note.Verifier) bool {
	opened, err := note.Open(signed, note.VerifierList(key))
	return err == nil && len(opened.Sigs) > 0
}

// verifierKeys reads note verifier keys, of which none may come twice: one
// witness under two names would count twice.
func verifierKeys(keys []string, read func(string) (note.Verifier, error)) ([]note.Verifier, error) {
	list, seen := make([]note.Verifier, len(keys)), map[string]bool{}
	for i, key := range keys {
		var err error
		if list[i], err = read(key); err != nil {
			return nil, refuse(CodeInvalid, "key %d of the anchor is not a verifier key", i+1)
		}
		data := keyData(key)
		if seen[string(data[1:])] {
			return nil, refuse(CodeInvalid, "key %d of the anchor is there twice", i+1)
		}
		seen[string(data[1:])] = true
	}
	return list, nil
}

// keyData is what a note verifier key that was read holds: an algorithm, and the key.
func keyData(key string) []byte {
	data, _ := base64.StdEncoding.DecodeString(strings.SplitN(key, "+", 3)[2])
	return data
}

// ofLargeOrder makes sure that anybody cannot sign for one of these verifier keys, which
// were read before.
func ofLargeOrder(keys []string) error {
	for i, key := range keys {
		if data := keyData(key); len(data) == 1+ed25519.PublicKeySize && !largeOrder(data[1:]) {
			return refuse(CodeInvalid, "key %d of the anchor is not a point of large order on Ed25519", i+1)
		}
	}
	return nil
}

// log places every leaf of the bundle in the tree of its checkpoint.
func (v *verification) log() (string, error) {
	p := v.b.Log
	c, err := OpenCheckpoint([]byte(p.Checkpoint), v.anchors.Log, nil)
	if err != nil {
		return "", err
	}
	for _, place := range v.places {
		if place.log != c.Origin {
			return "", refuse(CodeLog, "what was signed is for the log %q, the checkpoint is of %q", place.log, c.Origin)
		}
	}
	if err := c.contains(v.b.Genesis, p.Genesis, -1); err != nil {
		return "", refuse(CodeOf(err), "the genesis: %s", err.Error())
	}
	if err := v.rosterLeaf(c); err != nil {
		return "", refuse(CodeOf(err), "the roster: %s", err.Error())
	}
	if len(p.Chain) != len(v.leaves) {
		return "", refuse(CodeLog, "the bundle places %d of %d leaves", len(p.Chain), len(v.leaves))
	}
	after := p.Genesis.Index
	for i, place := range p.Chain {
		if err := c.contains(v.b.Chain[i], place, after); err != nil {
			return "", refuse(CodeOf(err), "leaf %d: %s", i+1, err.Error())
		}
		after = place.Index
	}
	if err := v.heads(c); err != nil {
		return "", err
	}
	detail := fmt.Sprintf("%d leaves are in the log of %d", len(v.leaves), c.N)
	if v.anchors.Log == nil {
		v.lacks("log")
		return "", operatorAsserted(detail + "; its key is not an anchor")
	}
	return detail, nil
}

// contains checks that an entry is at its place in the tree, behind another place.
func (c Checkpoint) contains(entry []byte, at Inclusion, after int64) error {
	if at.Index <= after {
		return refuse(CodeLog, "it is in the log before what it follows")
	}
	return c.holds(tlog.Hash(LeafHash(entry)), at)
}

// holds checks an inclusion proof.
func (c Checkpoint) holds(leaf tlog.Hash, at Inclusion) error {
	proof, err := hashes(at.Proof)
	if err != nil {
		return err
	}
	if tlog.CheckRecord(proof, c.N, c.Hash, at.Index, leaf) != nil {
		return refuse(CodeLog, "it is not at its place in the log")
	}
	return nil
}

// extends checks a consistency proof with an earlier tree, whose root has the size
// of one.
func (c Checkpoint) extends(earlier Consistency) error {
	proof, err := hashes(earlier.Proof)
	if err != nil {
		return err
	}
	if tlog.CheckTree(proof, c.N, c.Hash, earlier.Size, tlog.Hash(earlier.Root)) != nil {
		return refuse(CodeLog, "the log does not extend the one that a signer was shown")
	}
	return nil
}

// hashes reads the hashes of a proof.
func hashes(proof []Bytes) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(proof))
	for i, hash := range proof {
		if len(hash) != tlog.HashSize {
			return nil, refuse(CodeLog, "a proof has hashes of %d bytes", tlog.HashSize)
		}
		list[i] = tlog.Hash(hash)
	}
	return list, nil
}

// rosterLeaf checks that the newest version of the roster is in the log.
func (v *verification) rosterLeaf(c Checkpoint) error {
	at, versions := v.b.Log.Roster, v.keys.Versions()
	if (at == nil) != (versions == 0) {
		return refuse(CodeLog, "its newest version has a leaf exactly where there is one")
	}
	if at == nil {
		return nil
	}
	leaf, err := ParseLeaf(at.Entry)
	if err != nil {
		return err
	}
	if leaf.Workspace != v.leaves[0].Workspace || leaf.Body != (RosterVersion{Version: versions, Roster: v.keys.Digest(versions)}) {
		return refuse(CodeLog, "the leaf is not that of its newest version")
	}
	return c.contains(at.Entry, at.Inclusion, v.b.Log.Genesis.Index)
}

// heads checks that the tree extends every tree that a signer was shown, and
// that no decision is in the log before what its signer was shown of it, or behind what took its key
// out of the roster, as far as the newest version's place tells.
func (v *verification) heads(c Checkpoint) error {
	var shown []LogHead
	known := map[LogHead]bool{}
	for i, d := range v.made {
		head := *d.statement.LogHead
		if v.placeOf(d) < head.Size {
			return refuse(CodeLog, "decision %d is in the log before what its signer was shown", i+1)
		}
		if d.key.Removed != 0 && v.placeOf(d) > v.b.Log.Roster.Index {
			return refuse(CodeRevoked, "decision %d is in the log behind the revocation of its key", i+1)
		}
		if head.Size > 0 && !known[head] {
			known[head] = true
			shown = append(shown, head)
		}
	}
	slices.SortFunc(shown, func(a, b LogHead) int { return cmp.Compare(a.Size, b.Size) })
	if len(v.b.Log.Heads) != len(shown) {
		return refuse(CodeLog, "the bundle proves %d of %d log heads", len(v.b.Log.Heads), len(shown))
	}
	for i, proved := range v.b.Log.Heads {
		if proved.Size != shown[i].Size || hex.EncodeToString(proved.Root) != string(shown[i].Root) {
			return refuse(CodeLog, "log head %d is not one that a signer was shown", i+1)
		}
		if err := c.extends(proved); err != nil {
			return err
		}
	}
	return nil
}

// placeOf is the index of a decision's leaf.
func (v *verification) placeOf(d decision) int64 { return v.b.Log.Chain[d.sequence-1].Index }

// witnesses counts who else saw the checkpoint: as many have to as the anchors
// say, and as many as the rule says.
func (v *verification) witnesses() (string, error) {
	policy, demanded := v.anchors.Witnesses, v.rule.Cosignatures
	if policy == nil {
		v.lacks("witnesses")
		return "", operatorAsserted("UNWITNESSED: who has to have seen the log is not an anchor")
	}
	n, err := policy.cosigned([]byte(v.b.Log.Checkpoint))
	if err != nil {
		return "", err
	}
	if n < demanded && len(policy.Keys) >= demanded {
		return "", refuse(CodeWitness, "%d of %d witnesses have cosigned the checkpoint, and the rule demands %d", n, len(policy.Keys), demanded)
	}
	if demanded > 0 || policy.Quorum > 0 {
		v.report.Witnesses = n
	}
	switch {
	case n < demanded: // too few are known to tell
		v.lacks("witnesses")
		return "", operatorAsserted(fmt.Sprintf("the rule demands %d witnesses, and only %d are anchors", demanded, len(policy.Keys)))
	case v.report.Witnesses == 0:
		return "UNWITNESSED: nobody has to have seen the log", nil
	}
	return fmt.Sprintf("%d of %d have cosigned the checkpoint, %d have to", n, len(policy.Keys), max(policy.Quorum, demanded)), nil
}
