package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// stateFormat names this version of [lookedThrough].
const stateFormat = "signedapproval.gate/v1"

// lookedThrough is up to where in the log the newest version of a workspace's roster is known, from the anchors or from an earlier
// look. Leaves before Size are not read for the roster again, so it is worth as much as whoever can write it.
type lookedThrough struct {
	Format string `json:"format"`
	// Origin names the log, Genesis the workspace.
	Origin  string          `json:"origin"`
	Genesis evidence.Digest `json:"genesis"`
	// Roster is the newest version in the log of Size leaves with Root; all three are empty where nothing is known.
	Roster evidence.Digest `json:"roster"`
	Size   int64           `json:"size"`
	Root   evidence.Digest `json:"root"`
	// Policies are the newest in that log, by what stands for their repositories; nil where it was not looked through. Of a repository that is
	// not there nothing is known.
	Policies map[evidence.Digest]ruleInForce `json:"policies"`
}

// pinnedHead is what the anchors say of the log.
func pinnedHead(anchors evidence.Anchors) lookedThrough {
	pinned := lookedThrough{Format: stateFormat, Origin: anchors.Log.Origin, Genesis: anchors.Genesis}
	if h := anchors.LogHead; h != nil {
		pinned.Roster, pinned.Size, pinned.Root = anchors.Roster, h.Size, h.Root
	}
	return pinned
}

// known is what is known of the roster before anything is asked: from the anchors, and what is remembered, the newest first.
func (c *verifyCommand) known(anchors evidence.Anchors) ([]lookedThrough, error) {
	pinned := pinnedHead(anchors)
	if c.State == "" {
		return []lookedThrough{pinned}, nil
	}
	if anchors.Genesis == "" {
		return nil, errors.New("--state needs anchors that name the workspace's genesis: else the file could be about another workspace")
	}
	raw, err := readFile(c.State, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return []lookedThrough{pinned}, nil
	}
	if err != nil {
		return nil, err
	}
	var kept lookedThrough
	switch err := json.Unmarshal(raw, &kept); {
	case err != nil || kept.Format != stateFormat || kept.Size < 1 || !kept.Root.Valid() || !kept.Roster.Valid() || kept.Policies == nil:
		return nil, fmt.Errorf("%s is not a state of this version (%s): remove it, and the log is looked through again", c.State, stateFormat)
	case kept.Origin != pinned.Origin || kept.Genesis != pinned.Genesis:
		return nil, fmt.Errorf("%s is about another log or workspace than the anchors: give each a file of its own", c.State)
	case kept.Size > pinned.Size:
		return []lookedThrough{kept, pinned}, nil
	}
	return []lookedThrough{pinned, kept}, nil
}

func (l lookedThrough) write(path string) error {
	raw, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	return monitor.WriteFile(path, append(raw, '\n'), 0o600)
}

// treeOf is the tree of a log with so many leaves and that root; the empty one where there are none.
func treeOf(size int64, root evidence.Digest) (tlog.Tree, error) {
	var hash tlog.Hash
	if size == 0 {
		return tlog.Tree{}, nil
	}
	raw, err := hex.DecodeString(string(root))
	if err != nil || copy(hash[:], raw) != tlog.HashSize {
		return tlog.Tree{}, errors.New("a root is not a digest")
	}
	return tlog.Tree{N: size, Hash: hash}, nil
}

// longest is the longer one of two trees of a log, the one that is public and one that was shown before; the other has to be its beginning.
func longest(ctx context.Context, client *monitor.Client, public, seen tlog.Tree) (tlog.Tree, error) {
	newer, older := public, seen
	if older.N > newer.N {
		newer, older = older, newer
	}
	if err := client.Contains(ctx, newer, older); err != nil {
		return newer, fmt.Errorf("the public log of %d leaves is not the one of %d leaves that was public before: %w", public.N, seen.N, err)
	}
	return newer, nil
}

// logLook is a look through a public log.
type logLook struct {
	client  *monitor.Client
	anchors evidence.Anchors
	known   []lookedThrough // the newest first; there is one
	most    int64           // leaves that are read
	// head is the log as it was before the evidence was asked for, where that took a while; the empty one where there is nothing that the
	// evidence need not know of.
	head tlog.Tree
	// remembers says that what the look finds is written down for later ones.
	remembers bool
	// seen is the longest log that was shown to this look or one before it, which no later one does without.
	seen *tlog.Tree
}

// owed is how many leaves of the public log the evidence has to know of, and is refused without: those that were there when it was asked for, by what the server
// said then, and by what it had said before or says in the evidence itself: a request is listed once it was merged or closed.
func (l logLook) owed(public int64, histories []history) int64 {
	if l.head.N == 0 {
		return public
	}
	owed := l.head.N
	for _, k := range l.known {
		owed = max(owed, k.Size)
	}
	for _, h := range histories {
		owed = max(owed, h.settled)
	}
	return owed
}

// compare compares what bundles of one workspace say is in the log with the log that is public now: that it has the log of each in it, nothing about
// their pull requests that they do not have, such as a withdrawal or a newer commit, no version of the roster that one of them does not
// have, in which a key may be reported as stolen, and nothing that revokes a key which one rests on and its roster counts; and that each
// verdict was reached by the policy that was in force, as far as the look tells. No place that only the server names is where the look
// begins: a leaf can be appended twice, and then there is an end of the history that has less before it. It returns the outcome as it was
// where it finds nothing, and true where the first of what is known is about the log of now then: not while the roster counts any key
// that the log revokes, for later evidence that rests on that one.
func (l logLook) compare(ctx context.Context, histories []history, outcome gateOutcome, code int) (gateOutcome, int, bool) {
	client, anchors, known := l.client, l.anchors, l.known
	bad := func(err error) (gateOutcome, int, bool) {
		return gateOutcome{Code: gateLog, Sentence: err.Error()}, 1, false
	}
	public, err := client.Checkpoint(ctx, anchors)
	if err != nil {
		return bad(err)
	}
	if public.Tree, err = longest(ctx, client, public.Tree, *l.seen); err != nil {
		return bad(err)
	}
	*l.seen = public.Tree
	// The older one starts no look, but is about this very log too: the newer one can be of a log that the other was replaced to leave.
	for _, k := range known {
		before, err := treeOf(k.Size, k.Root)
		if err != nil {
			return bad(err)
		}
		if err := client.Contains(ctx, public.Tree, before); err != nil {
			return bad(fmt.Errorf("the public log is not the one of %d leaves that is known from the anchors or --state: %w", k.Size, err))
		}
	}
	owed := l.owed(public.N, histories)
	from := known[0].Size
	for _, k := range known {
		if k.Policies != nil {
			from = min(from, k.Size) // where it was looked for rules last, though anchors know a newer roster: what came in between is in neither
		}
	}
	further := from
	for _, h := range histories {
		shown, err := monitor.Open([]byte(h.checkpoint), anchors)
		if err != nil {
			return bad(fmt.Errorf("the bundle's checkpoint: %w", err))
		}
		if err := client.Contains(ctx, public.Tree, shown.Tree); err != nil {
			return bad(fmt.Errorf("the public log is not the one of the bundle: %w", err))
		}
		for _, k := range known {
			if k.Size > 0 && h.roster.versions[k.Roster] == 0 {
				return gateOutcome{Code: gateStale, Sentence: fmt.Sprintf("the evidence does not have the version of the roster that was the newest in the log of %d leaves", k.Size)}, 1, false
			}
		}
		from = min(from, h.begin)
		for _, key := range h.ended {
			from = min(from, h.without(key, known))
		}
		from = h.vouchedFrom(h.vouchedSince(known, false), known, from)
		further = h.vouchedFrom(h.vouchedSince(known, true), known, further)
	}
	if further = min(from, further); l.remembers && public.N-further <= l.most {
		from = further // what is remembered is so of all keys
	}
	if n := public.N - from; n > l.most {
		return gateOutcome{Code: gateAsserted, Sentence: fmt.Sprintf(
			"it rests on the server's word that the evidence leaves nothing out about the pull request, and no newer roster, in which a key may be reported as stolen: "+
				"the log has %d leaves since leaf %d, and --max-leaves is %d; give %d or more, which is needed once with --state; where that is 0, or the logHead of the anchors, and no --state is older, newer anchors let it begin later", n, from, l.most, n)}, 2, false
	}
	var lacking history
	var later *gateOutcome // what the evidence lacks, and came since by the server's word
	places := monitor.PlacesOf(histories[0].workspace)
	rules := rulesSeen{workspace: histories[0].workspace, before: remembered(known)}
	followed := true
	chains := map[evidence.Digest][]history{}
	for _, h := range histories {
		chains[h.chain] = append(chains[h.chain], h)
	}
	index, leaf, other, err := client.Later(ctx, public.Tree, from, func(index int64, leaf evidence.Leaf) bool {
		rules.see(index, leaf)
		places.See(index, leaf)
		var about []history // that the leaf may concern
		switch leaf.Body.(type) {
		case evidence.RosterVersion, evidence.KeyRevoked:
			about = histories
		default:
			if leaf.Chain != nil {
				about = chains[leaf.Chain.ID]
			}
		}
		return slices.ContainsFunc(about, func(h history) bool {
			lacking = h
			if _, counts := h.unfollowed(leaf); counts {
				followed = false
			}
			if later == nil && index >= owed && h.lacks(index, leaf, public.N) {
				later = &gateOutcome{Code: gateMoved, Sentence: fmt.Sprintf(
					"leaf %d (%s) is not in the evidence, and came after that was asked for if the server is to be believed: look once more when less happens", index, leaf.Body.Type())}
			}
			return h.lacks(index, leaf, owed)
		})
	})
	switch {
	case err != nil:
		return bad(err)
	case other && leaf.Chain != nil && index < lacking.end:
		return bad(fmt.Errorf("the evidence leaves leaf %d about the pull request out, or has it elsewhere (%s)", index, leaf.Body.Type()))
	case other && leaf.Body.Type() == evidence.TypeKeyRevoked:
		return gateOutcome{Code: gateStale, Sentence: fmt.Sprintf("the evidence rests on a key that leaf %d of the log revokes, and its roster still counts it", index)}, 1, false
	case other:
		about := "the people and their keys"
		if leaf.Chain != nil {
			about = "the pull request"
		}
		return gateOutcome{Code: gateStale, Sentence: fmt.Sprintf("the evidence is not the newest: the log has leaf %d about %s (%s), which is not in it", index, about, leaf.Body.Type())}, 1, false
	}
	for _, h := range histories {
		if late, found := h.late(places, known); found {
			return gateOutcome{Code: gateRevoked, Sentence: fmt.Sprintf("leaf %d of the log is a decision by a key that had been revoked before it", late)}, 1, false
		}
		if outcome, outdated := rules.outdated(h); outdated {
			return outcome, 1, false
		}
	}
	refused, told, vouched := l.vouched(histories, places, from)
	switch {
	case refused != "":
		return gateOutcome{Code: gateRevoked, Sentence: refused}, 1, false
	case later != nil && code == 0:
		return *later, 2, false
	case !told && code == 0:
		return gateOutcome{Code: gateAsserted, Sentence: fmt.Sprintf("it rests on the server's word that a key signed for another one before it was revoked: "+
			"that was before leaf %d, where the look began; anchors that are newer, or have no logHead, tell", from)}, 2, false
	case !followed || !vouched:
		return outcome, code, false
	}
	newest := &known[0]
	newest.Policies = rules.now()
	newest.Roster, newest.Size, newest.Root = histories[0].roster.newest, public.N, evidence.Digest(hex.EncodeToString(public.Hash[:]))
	return outcome, code, true
}

// history is what a bundle that was verified says is in the log.
type history struct {
	checkpoint       string
	workspace, chain evidence.Digest
	// begin is where the pull request's leaves begin: with its first leaf, or where the log ended by the word of one who
	// decided, whichever is earlier. end is after its last one.
	begin, end int64
	// settled is after the leaf by which the request was merged or closed; 0 where it was neither.
	settled int64
	// closed says that the request was closed, and that what came to the pull request after it, which is in no bundle of it, does not matter.
	closed bool
	// places are the indexes of the chain's leaves.
	places map[int64]bool
	// roster may be that of others too; rests has the keys that the evidence rests on.
	roster *roster
	rests  map[evidence.Digest]bool
	// ended are the keys of decisions that were revoked since, by the indexes of those.
	ended map[int64]revokedKey
	// verdict is the index of the last one, -1 where there is none; policy is what it was reached by.
	verdict            int64
	repository, policy evidence.Digest
}

// historyOf reads a bundle. What it says of the roster it shares with those that were read before.
func historyOf(raw []byte, known *rosters) (history, error) {
	bundle, err := evidence.ParseBundle(raw)
	if err != nil {
		return history{}, err
	}
	about := bundle.Requests[0]
	h := history{
		checkpoint: bundle.Log.Checkpoint, workspace: evidence.WorkspaceID(bundle.Salt, about.Workspace), chain: evidence.ChainID(bundle.Salt, about.Repository, about.PullRequest),
		begin: bundle.Log.Chain[0].Index, end: bundle.Log.Chain[len(bundle.Log.Chain)-1].Index + 1,
		places: map[int64]bool{}, ended: map[int64]revokedKey{},
		verdict: -1, repository: evidence.RepositoryID(bundle.Salt, about.Repository), policy: approval.DigestOf(bundle.Policy),
	}
	for _, d := range bundle.Decisions {
		s, err := evidence.ParseStatement(d.Statement)
		if err != nil {
			return h, err
		}
		h.begin = min(h.begin, s.LogHead.Size)
	}
	if h.roster, err = known.of(bundle); err != nil {
		return h, err
	}
	if h.rests, err = restsOn(bundle); err != nil {
		return h, err
	}
	made := bundle.Decisions
	for i, entry := range bundle.Chain {
		leaf, err := evidence.ParseLeaf(entry)
		if err != nil {
			return h, err
		}
		index := bundle.Log.Chain[i].Index
		h.places[index] = true
		switch leaf.Body.(type) {
		case evidence.VerdictReached:
			h.verdict = index
		case evidence.Merged, evidence.RequestClosed:
			h.settled = index + 1
		case evidence.DecisionMade:
			if key, revoked := h.roster.revoked[string(made[0].Assertion.CredentialID)]; revoked {
				h.ended[index] = key
			}
			made = made[1:]
		}
	}
	return h, nil
}

// lacks reports whether a leaf of the log is about the pull request, the roster or a key and not in the bundle, which has to know of so many
// leaves and has none left out before its own last one.
func (h history) lacks(index int64, leaf evidence.Leaf, owed int64) bool {
	if leaf.Chain != nil && leaf.Chain.ID == h.chain {
		return !h.places[index] && (index < h.end || !h.closed && index < owed)
	}
	if index >= owed {
		return false
	}
	if rests, _ := h.unfollowed(leaf); rests {
		return true
	}
	version, ok := leaf.Body.(evidence.RosterVersion)
	return ok && leaf.Workspace == h.workspace && h.roster.versions[version.Roster] == 0
}
