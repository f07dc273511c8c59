package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/signedapproval/bitbucket/server/approval"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

type anchorsCommand struct {
	Get    anchorsGetCommand    `cmd:"" help:"Make an anchors file from what a server publishes now: trust on first use."`
	Models anchorsModelsCommand `cmd:"" help:"Pin models of authenticators, from the metadata of the FIDO Alliance."`
}

type anchorsGetCommand struct {
	remote
	Workspace string   `help:"The workspace's UUID or slug." required:""`
	Output    string   `short:"o" help:"The file to write." required:"" placeholder:"FILE"`
	Force     bool     `help:"Write over anchors that are there, of the same workspace and log, which has to begin with the one of which they have a head. Models and keys in them stay."`
	Policies  string   `help:"Which policies are pinned: the newest of each repository that is gated, or all that ever were." default:"newest" enum:"newest,all"`
	Witness   []string `help:"A witness's verifier key, as the witness publishes it; may be given again." placeholder:"KEY"`
	Quorum    int      `help:"How many of the witnesses have to have cosigned." default:"0"`
	MaxLeaves int64    `help:"How many leaves of the log to read at most, to see that the server gives the newest roster and policies: all that there are." default:"1000000" placeholder:"N"`
}

// Run writes the file and says what is to be done with it.
func (c *anchorsGetCommand) Run(ctx context.Context, s streams) error {
	if c.Quorum < 0 || c.Quorum > len(c.Witness) {
		return fmt.Errorf("a quorum of %d cannot be met by %d witnesses", c.Quorum, len(c.Witness))
	}
	client, err := c.client(true)
	if err != nil {
		return err
	}
	if err := free(c.Output, c.Force); err != nil {
		return err
	}
	former, pinned, err := c.replaced()
	if err != nil {
		return err
	}
	at, err := locate(ctx, client, c.Workspace, "")
	if err != nil {
		return err
	}
	anchors, err := c.published(ctx, client)
	if err != nil {
		return err
	}
	opened, roster, err := c.opened(ctx, client, at.workspace, pinned, &anchors)
	if err != nil {
		return err
	}
	if err := succeeds(&anchors, former); err != nil {
		return err
	}
	c.pin(&anchors, opened)
	file, err := json.MarshalIndent(struct {
		Format string `json:"format"`
		evidence.Anchors
	}{evidence.AnchorsFormat, anchors}, "", "  ")
	if err != nil {
		return err
	}
	if _, err := evidence.ParseAnchors(file); err != nil {
		return fmt.Errorf("what the server publishes makes no anchors: %w", err)
	}
	if err := save(c.Output, append(file, '\n'), c.Force); err != nil {
		return err
	}
	return c.explain(s, anchors, opened, roster)
}

// replaced are the anchors that are written over; none where there is no file. What is there and is none is not written over: nobody could
// tell what it pinned.
func (c *anchorsGetCommand) replaced() (anchors evidence.Anchors, head tlog.Tree, err error) {
	file, err := os.Stat(c.Output)
	if errors.Is(err, fs.ErrNotExist) {
		return anchors, head, nil
	}
	if err == nil && !file.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file that can be written over", c.Output)
	}
	if err != nil {
		return anchors, head, err
	}
	raw, err := readFile(c.Output, evidence.MaxAnchors)
	if err != nil {
		return anchors, head, err
	}
	if anchors, err = evidence.ParseAnchors(raw); err != nil {
		return anchors, head, fmt.Errorf("%s is there and is no anchors file that this version reads: take another name, or remove it: %w", c.Output, err)
	}
	if h := anchors.LogHead; h != nil {
		head, err = treeOf(h.Size, h.Root)
	}
	return anchors, head, err
}

// succeeds makes sure that anchors are of the workspace and the log of those that they take the place of, and keeps what no server publishes.
func succeeds(anchors *evidence.Anchors, former evidence.Anchors) error {
	switch {
	case former.Log != nil && former.Log.Origin != anchors.Log.Origin:
		return fmt.Errorf("the anchors that are there are of another log, %s: take another name for those of %s", former.Log.Origin, anchors.Log.Origin)
	case former.Genesis != "" && former.Genesis != anchors.Genesis:
		return errors.New("the anchors that are there are of another workspace, or of another history of this one: take another name")
	}
	anchors.Models, anchors.Keys = former.Models, former.Keys
	return nil
}

// published pins the log and the page on which people sign.
func (c *anchorsGetCommand) published(ctx context.Context, client *monitor.Client) (evidence.Anchors, error) {
	raw, err := client.Get(ctx, "/log/verifier-keys", nil, 64<<10)
	if err != nil {
		return evidence.Anchors{}, fmt.Errorf("keys of the log: %w", err)
	}
	keys := strings.Fields(string(raw))
	if len(keys) == 0 {
		return evidence.Anchors{}, errors.New("the server announces no key of its log")
	}
	origin, _, _ := strings.Cut(keys[0], "+")
	anchors := evidence.Anchors{
		Log:       &evidence.LogAnchor{Origin: origin, Keys: keys},
		Witnesses: &evidence.WitnessPolicy{Quorum: c.Quorum, Keys: append([]string{}, c.Witness...)},
	}
	var found struct {
		Server struct{ RelyingPartyID, Origin string }
	}
	if err := ask(ctx, client, `query { server { relyingPartyId origin } }`, map[string]any{}, &found); err != nil {
		return evidence.Anchors{}, err
	}
	anchors.RelyingParties = []evidence.RelyingParty{{ID: found.Server.RelyingPartyID, Origin: found.Server.Origin}}
	return anchors, nil
}

// publishing is how often, and publishPause how long after one another, it is looked whether a checkpoint has the roster.
const (
	publishing   = 10
	publishPause = time.Second
)

// opened pins the roster and a head of the log at which it was the newest version: that head has the leaf of it, and was read before
// it, so that a newer one that the head has would have been read, or the server hides it, which newest looks for. What the server is a
// moment behind with is asked for again. head is the longest log that was shown before, which no try does without.
func (c *anchorsGetCommand) opened(ctx context.Context, client *monitor.Client, workspace string, head tlog.Tree, anchors *evidence.Anchors) (evidence.Openings, *evidence.Roster, error) {
	for try := 1; ; try++ {
		public, err := client.Checkpoint(ctx, *anchors)
		if err != nil {
			return evidence.Openings{}, nil, err
		}
		if head, err = longest(ctx, client, public.Tree, head); err != nil {
			return evidence.Openings{}, nil, err
		}
		o, err := client.Openings(ctx, workspace)
		if err != nil {
			return o, nil, err
		}
		roster, err := rosterOf(o)
		if err != nil {
			return o, nil, err
		}
		behind := "the log that is published does not have the newest version of the workspace's roster yet"
		if o.RosterLeaf != nil && *o.RosterLeaf < head.N {
			if behind, err = c.newest(ctx, client, head, o, roster); err != nil {
				return o, nil, err
			}
		}
		if behind == "" {
			anchors.Genesis, anchors.Roster = evidence.LeafDigest(o.Genesis), roster.Digest(roster.Versions())
			anchors.LogHead = &evidence.LogHead{Size: head.N, Root: evidence.Digest(hex.EncodeToString(head.Hash[:]))}
			return o, roster, nil
		}
		if try == publishing {
			return o, nil, fmt.Errorf("%s: try again", behind)
		}
		select {
		case <-time.After(publishPause):
		case <-ctx.Done():
			return o, nil, ctx.Err()
		}
	}
}

// policyAt is a version of a repository's policy, by what stands for the repository.
type policyAt struct {
	repository evidence.Digest
	version    int64
}

// newest makes sure that the openings have the newest version of the roster that a log has, at the place that they say, and of each repository
// the newest policy: who pins what is older would look for what came since behind it. It reads the whole log, since a leaf can be appended once
// more, with newer ones before it. What the log or the roster can be a moment behind with it tells: a policy that the server gives and no leaf,
// where nobody who follows the log can find it, and a key that a leaf revokes and the roster counts, for which nobody looks who begins behind it.
func (c *anchorsGetCommand) newest(ctx context.Context, client *monitor.Client, tree tlog.Tree, o evidence.Openings, roster *evidence.Roster) (behind string, err error) {
	if tree.N > c.MaxLeaves {
		return "", fmt.Errorf("the log has %d leaves, all of which are read to see that the server leaves out no newer roster or policy, and --max-leaves is %d", tree.N, c.MaxLeaves)
	}
	given, unseen, newest := map[policyAt]evidence.Digest{}, map[policyAt]bool{}, map[evidence.Digest]int64{}
	for _, p := range o.Policies {
		at := policyAt{evidence.RepositoryID(o.Salt, p.Repository), p.Version}
		if unseen[at] {
			return "", fmt.Errorf("the server gives version %d of the policy of repository %s twice", p.Version, printable(p.Repository))
		}
		unseen[at], given[at], newest[at.repository] = true, "", max(newest[at.repository], p.Version)
		if len(p.Policy) > 0 {
			given[at] = approval.DigestOf(p.Policy)
		}
	}
	counts := map[evidence.Digest]bool{}
	for _, key := range roster.Keys() {
		counts[key.Digest] = key.LiveAt(roster.Versions())
	}
	workspace, placed, followed := evidence.WorkspaceID(o.Salt, o.Workspace), false, true
	places := monitor.PlacesOf(workspace)
	index, leaf, hidden, err := client.Later(ctx, tree, 0, func(index int64, leaf evidence.Leaf) bool {
		places.See(index, leaf)
		if said, here := monitor.Revokes(leaf, workspace); here && counts[said.Key] {
			followed = false
		}
		if leaf.Workspace != workspace {
			return false
		}
		switch body := leaf.Body.(type) {
		case evidence.RosterVersion:
			version, known := roster.VersionOf(body.Roster)
			placed = placed || index == *o.RosterLeaf && version == roster.Versions() && version == body.Version
			return !known
		case evidence.PolicyVersion:
			at := policyAt{body.Repository, body.Version}
			policy, known := given[at]
			delete(unseen, at)
			last, gated := newest[body.Repository]
			return known && policy != body.Policy || gated && body.Version > last
		}
		return false
	})
	switch {
	case err != nil:
		return "", err
	case hidden:
		return "", fmt.Errorf("leaf %d of the log (%s) is not in what the server gives of the workspace, which is not the newest", index, leaf.Body.Type())
	case !placed:
		return "", fmt.Errorf("leaf %d of the log is not that of the newest version of the workspace's roster", *o.RosterLeaf)
	}
	if err := vouchedInTime(roster, places); err != nil {
		return "", err
	}
	switch {
	case len(unseen) > 0:
		return "the log that is published does not have the newest version of one of the workspace's policies yet", nil
	case !followed:
		return "the log revokes a key that the newest version of the workspace's roster still counts", nil
	}
	return "", nil
}

// vouchedInTime makes sure that whoever vouched for a key in the roster did so before theirs was revoked, by the whole log: what is pinned is
// not looked at again.
func vouchedInTime(roster *evidence.Roster, places monitor.Places) error {
	for n := int64(1); n <= roster.Versions(); n++ {
		change, _ := roster.Change(n)
		for _, voucher := range monitor.Vouchers(change) {
			said, revoked := places.Revoked[voucher]
			if index, seen := places.Vouched(change, roster.Digest(n)); revoked && (!seen || index > said) {
				return fmt.Errorf("version %d of the roster rests on key %s, which leaf %d of the log had revoked before it signed: nobody should pin that", n, voucher, said)
			}
		}
	}
	return nil
}

// rosterOf replays the roster that openings have.
func rosterOf(o evidence.Openings) (*evidence.Roster, error) {
	var changes []evidence.RosterChange
	for _, raw := range o.Roster {
		change, err := evidence.ParseRosterChange(raw)
		if err != nil {
			return nil, fmt.Errorf("roster: %w", err)
		}
		changes = append(changes, change)
	}
	roster, err := evidence.ReplayRoster(evidence.LeafDigest(o.Genesis), changes)
	if err == nil && roster.Versions() == 0 {
		err = errors.New("nobody's key is in the workspace's roster yet: there is nobody to pin")
	}
	return roster, err
}

// pin pins, of each repository, the policies that the openings of the workspace have now.
func (c *anchorsGetCommand) pin(anchors *evidence.Anchors, opened evidence.Openings) {
	newest := map[string]int64{}
	for _, p := range opened.Policies {
		newest[p.Repository] = max(newest[p.Repository], p.Version)
	}
	pinned := map[string][]evidence.Digest{}
	for _, p := range opened.Policies {
		if len(p.Policy) > 0 && (c.Policies == "all" || p.Version == newest[p.Repository]) {
			pinned[p.Repository] = append(pinned[p.Repository], approval.DigestOf(p.Policy))
		}
	}
	for _, repository := range slices.Sorted(maps.Keys(pinned)) {
		digests := slices.Compact(slices.Sorted(slices.Values(pinned[repository])))
		anchors.Policies = append(anchors.Policies, evidence.PinnedPolicies{Repository: repository, Digests: digests})
	}
}

// explain prints what was pinned, so that the keys can be read out to their owners.
func (c *anchorsGetCommand) explain(s streams, anchors evidence.Anchors, opened evidence.Openings, roster *evidence.Roster) error {
	owners := map[string]string{}
	for _, e := range opened.Enrolments {
		act, err := evidence.ParseAct(e.Enrolment.Act)
		if err != nil || e.Owner == nil || e.Owner.Verify(act.Signer.Commitment) != nil {
			continue
		}
		owners[act.Signer.Person] = fmt.Sprintf("%s (account %s)", e.Owner.Name, e.Owner.AccountID)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s pins what %s says about itself now. This is trust on first use: it proves nothing yet.\n\n", c.Output, c.URL)
	fmt.Fprintf(&b, "log      %s\n", anchors.Log.Origin)
	for _, key := range anchors.Log.Keys {
		fmt.Fprintf(&b, "         key %s\n", key)
	}
	fmt.Fprintf(&b, "genesis  %s\nroster   %s, version %d, the newest in the log of %d leaves\n", anchors.Genesis, anchors.Roster, roster.Versions(), anchors.LogHead.Size)
	for _, of := range anchors.Policies {
		for _, policy := range of.Digests {
			fmt.Fprintf(&b, "policy   %s of repository %s\n", policy, printable(of.Repository))
		}
	}
	for _, rp := range anchors.RelyingParties {
		fmt.Fprintf(&b, "signed   on %s for %s\n", rp.Origin, rp.ID)
	}
	if anchors.Witnesses.Quorum == 0 {
		b.WriteString("witness  none is needed: what this file verifies is UNWITNESSED. --witness and --quorum change that\n")
	} else {
		fmt.Fprintf(&b, "witness  %d of %d have to cosign\n", anchors.Witnesses.Quorum, len(anchors.Witnesses.Keys))
	}
	keys := roster.Keys() // revoked ones too: what they signed before stands
	slices.SortStableFunc(keys, func(a, b evidence.RosterKey) int { return strings.Compare(a.Key.Person, b.Key.Person) })
	person := ""
	for _, key := range keys {
		if key.Key.Person != person {
			person = key.Key.Person
			name := owners[person]
			if name == "" {
				name = "erased"
			}
			fmt.Fprintf(&b, "\nperson   %s: %s\n", person, printable(name))
		}
		fmt.Fprintf(&b, "         key %s\n         identified by %s\n", key.Digest, roster.IdentityAt(key, roster.Versions()))
		if key.Removed != 0 {
			fmt.Fprintf(&b, "         revoked in version %d\n", key.Removed)
			if key.CompromisedSince != nil {
				fmt.Fprintf(&b, "         reported as stolen since %s\n", key.CompromisedSince.Format(time.RFC3339))
			}
		}
	}
	b.WriteString("\nRead each key out to its owner, who finds it among their passkeys, on a road that does not lead through this server.\n" +
		"A key that its owner does not know makes this file worthless, and so does one that its owner reported and that is not revoked here. Compare the log's key with somebody else who follows the log.\n" +
		"Keep the file where the operator of the server cannot change it.\n")
	_, err := s.out.Write([]byte(b.String()))
	return err
}

// printable is a name as it may be shown in a terminal.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, name)
}
