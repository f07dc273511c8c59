package workspace_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/bitbucket"
	"github.com/signedapproval/bitbucket/server/bitbucketsim"
	"github.com/signedapproval/bitbucket/server/refusal"
	"github.com/signedapproval/bitbucket/server/store"
	"github.com/signedapproval/bitbucket/server/workspace"
)

// invocation is what the verifier makes of an invocation token, issued so long after the world began: what decides is which came first.
func (w *world) invocation(installation string, after time.Duration) atlassian.Invocation {
	return atlassian.Invocation{
		AppID: "ari:cloud:ecosystem::app/a", AppVersion: "1.0.0", Environment: "PRODUCTION",
		InstallationID: "ari:cloud:ecosystem::installation/" + installation,
		Workspace:      w.acme, APIBaseURL: w.sim.URL(), IssuedAt: w.noon.Add(after), ExpiresAt: w.noon.Add(after + 25*time.Second),
	}
}

// robot is a token of the app's own user, who may administer acme.
func (w *world) robot() string {
	w.t.Helper()
	if _, ok := w.people["robot"]; !ok {
		w.people["robot"] = get(w.sim.AddPerson(bitbucketsim.Person{Nickname: "robot", DisplayName: "SignedApproval"}))(w.t)
		w.role("robot", "owner")
	}
	return get(w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "robot"}))(w.t).AccessToken
}

// invoked lets an installation speak, with a token that lives so long; none where it is 0.
func (w *world) invoked(installation string, after, lives time.Duration) store.Installation {
	w.t.Helper()
	token := ""
	if lives > 0 {
		token = w.robot()
	}
	return get(w.Invoked(w.t.Context(), w.invocation(installation, after), token, time.Now().Add(lives)))(w.t)
}

// installation is the one that acme has now.
func (w *world) installation() (i store.Installation) {
	w.t.Helper()
	w.read(w.acme, func(tx *store.Tx) (err error) { i, err = tx.Installation(w.t.Context()); return err })
	return i
}

func (w *world) wantInstallation(installation, state string) {
	w.t.Helper()
	i := w.installation()
	if !strings.HasSuffix(i.InstallationID, "/"+installation) || i.State != state {
		w.t.Errorf("the workspace has %s %s, want %s %s", i.InstallationID, i.State, installation, state)
	}
}

func TestTheFirstInstallation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	i := w.invoked("one", 0, 2*time.Hour)
	must(t, w.Installed(t.Context(), w.invocation("one", 0), w.people["alice"].AccountID))
	must(t, w.Installed(t.Context(), w.invocation("one", time.Second), w.people["alice"].AccountID)) // repeated
	if i.State != store.InstallationActive || i.SystemToken == "" {
		t.Errorf("installation %s, with a token: %t", i.State, i.SystemToken != "")
	}
	if got := w.installation().InstalledBy; got != w.people["alice"].AccountID {
		t.Errorf("installed by %q", got)
	}
	equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection installed"})

	alice := w.who("alice")
	must(t, w.refreshJob())
	found := get(w.Find(t.Context(), alice, w.acme))(t)
	if found.Name != "Acme Inc" || found.Slug != "acme" {
		t.Errorf("the workspace is called %q (%s)", found.Name, found.Slug)
	}
	for name, want := range map[string]store.Role{"alice": store.RoleAdmin, "bob": store.RoleMember, "mallory": store.RoleNone} {
		if got := get(w.Role(t.Context(), w.who(name), w.acme, true))(t); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	list, _ := get2(first(w.List(t.Context(), alice, store.Page{})))(t)
	if len(list) != 1 || list[0].ID != w.acme {
		t.Errorf("alice sees %v", list)
	}
	shown := get(w.Installation(t.Context(), alice, w.acme))(t)
	if shown.ID != i.ID || shown.SystemToken != "" {
		t.Errorf("shown %+v", shown)
	}
}

// first makes a pair of a list that answers whether there is more.
func first[T any](list []T, more bool, err error) ([]T, bool, error) { return list, more, err }

func TestAnInstalledEventThatGotLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	if i := w.invoked("one", 0, 0); i.State != store.InstallationActive {
		t.Errorf("the first invocation found it %s", i.State)
	}
	equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection installed"})
}

// reinstalled is a world whose workspace was gated under an installation that was uninstalled, and in
// which the app was installed again.
func reinstalled(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 2*time.Hour)
	w.saved(w.app, approvals(1))
	must(t, w.Uninstalling(t.Context(), w.invocation("one", time.Minute), w.robot(), time.Now().Add(2*time.Hour)))
	w.sql(`delete from signedapproval_jobs`)
	w.invoked("two", 2*time.Minute, 2*time.Hour)
	must(t, w.Installed(t.Context(), w.invocation("two", 2*time.Minute), ""))
	return w
}

func TestAReinstallationWaitsForAnAdministrator(t *testing.T) {
	t.Parallel()
	w := reinstalled(t)
	w.wantInstallation("two", store.InstallationAwaiting)
	equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmUnconfirmed})
	_, err := w.Client(t.Context(), w.acme, bitbucket.Foreground)
	refused(t, err, refusal.AwaitingConfirmation)
	_, _, err = w.SaveRepository(t.Context(), w.who("alice"), "session", w.acme, w.app, approvals(2))
	refused(t, err, refusal.AwaitingConfirmation)
	if who, _ := get2(first2(w.ActsAs(t.Context(), w.acme)))(t); who != workspace.ActsAsNobody {
		t.Errorf("%s acts", who)
	}

	// Nobody but who is an administrator of this workspace at this moment.
	dave := w.who("dave")
	if got := get(w.Role(t.Context(), dave, w.acme, true))(t); got != store.RoleAdmin {
		t.Fatalf("dave is %s", got)
	}
	w.role("dave", "member")
	refused(t, w.ConfirmInstallation(t.Context(), dave, w.acme), refusal.Forbidden)
	refused(t, w.ConfirmInstallation(t.Context(), w.who("erin"), w.acme), refusal.Forbidden) // of a repository only
	refused(t, w.ConfirmInstallation(t.Context(), w.who("mallory"), w.acme), refusal.NotFound)
	refused(t, w.ConfirmInstallation(t.Context(), w.who("alice"), w.umbrella), refusal.NotFound)
	refused(t, w.ConfirmInstallation(t.Context(), w.who("alice"), "acme"), refusal.NotFound)
	w.wantInstallation("two", store.InstallationAwaiting)

	alice := w.who("alice")
	must(t, w.ConfirmInstallation(t.Context(), alice, w.acme))
	must(t, w.ConfirmInstallation(t.Context(), alice, w.acme)) // twice
	w.wantInstallation("two", store.InstallationActive)
	if i := w.installation(); i.ConfirmedBy == nil || *i.ConfirmedBy != alice.ID || i.ConfirmedAt == nil {
		t.Errorf("confirmed by %v at %v", i.ConfirmedBy, i.ConfirmedAt)
	}
	equal(t, "alarms", w.alarms(w.acme), nil)
	equal(t, "jobs", w.texts(`select kind from signedapproval_jobs where workspace_id = $1 and state = 'READY' and run_at <= now() and kind <> 'notify' order by 1`, w.acme), []string{"reconcile", "refresh"})
	must(t, w.EnsureHook(t.Context(), w.acme, w.app))
	if c := w.config(w.app); c.State != store.RepositoryActive || c.Attention != "" {
		t.Errorf("the repository is %s: %s", c.State, c.Attention)
	}
	equal(t, "leaves", w.leaves(w.acme), []string{
		"genesis", "connection installed", "policy-version", "connection uninstalled", "connection installed", "connection confirmed",
	})
}

func first2[A, B any](a A, b B, err error) (A, B, error) { return a, b, err }

func TestWhatWasGatedByAConnectionIsConfirmedToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.saved(w.app, approvals(1))
	w.invoked("one", 0, 2*time.Hour)
	w.wantInstallation("one", store.InstallationAwaiting)
	// The connection reads meanwhile; what is to be written waits.
	client := get(w.Client(t.Context(), w.acme, bitbucket.Foreground))(t)
	get(client.Repository(t.Context(), w.acme, w.app))(t)
	_, err := client.Merge(t.Context(), w.acme, w.app, 1, bitbucket.MergeOptions{})
	refused(t, err, refusal.AwaitingConfirmation)
	_, err = w.Disconnect(t.Context(), w.who("alice"), w.acme)
	refused(t, err, refusal.AwaitingConfirmation)
	must(t, w.ConfirmInstallation(t.Context(), w.who("dave"), w.acme))
	w.wantInstallation("one", store.InstallationActive)
}

// TestAConnectionWithoutRepositoriesNeedsNoWord: nothing was decided before.
func TestAConnectionWithoutRepositoriesNeedsNoWord(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.connected("alice", w.acme)
	w.invoked("one", 0, 2*time.Hour)
	w.wantInstallation("one", store.InstallationActive)
}

// TestWhichInstallationIsTheWorkspaces tells stories of events that come late, twice, out of order or
// not at all.
func TestWhichInstallationIsTheWorkspaces(t *testing.T) {
	t.Parallel()
	const m = time.Minute
	type step struct {
		what  string // installed, speaks, uninstalling
		who   string
		after time.Duration // when the invocation was issued
	}
	for name, story := range map[string]struct {
		steps []step
		who   string
		state string
	}{
		"nothing but speech":                            {[]step{{"speaks", "one", 0}}, "one", store.InstallationActive},
		"installed before anything else is heard":       {[]step{{"installed", "one", 0}, {"speaks", "one", 0}}, "one", store.InstallationActive},
		"installed after it spoke":                      {[]step{{"speaks", "one", 0}, {"installed", "one", 0}}, "one", store.InstallationActive},
		"uninstalled":                                   {[]step{{"installed", "one", 0}, {"uninstalling", "one", m}}, "one", store.InstallationUninstalled},
		"its late speech does not bring it back":        {[]step{{"installed", "one", 0}, {"uninstalling", "one", m}, {"speaks", "one", 2 * m}}, "one", store.InstallationUninstalled},
		"nor its late news":                             {[]step{{"installed", "one", 0}, {"uninstalling", "one", m}, {"installed", "one", 4 * m}}, "one", store.InstallationUninstalled},
		"what it says much later does":                  {[]step{{"installed", "one", 0}, {"uninstalling", "one", m}, {"speaks", "one", 12 * m}}, "one", store.InstallationAwaiting},
		"uninstalling is all that is heard":             {[]step{{"uninstalling", "one", 0}}, "one", store.InstallationUninstalled},
		"another one after it":                          {[]step{{"installed", "one", 0}, {"uninstalling", "one", m}, {"speaks", "two", 2 * m}}, "two", store.InstallationAwaiting},
		"another one, and the end of the first is lost": {[]step{{"installed", "one", 0}, {"installed", "two", m}}, "two", store.InstallationAwaiting},
		"the first's late speech":                       {[]step{{"installed", "one", 0}, {"installed", "two", m}, {"speaks", "one", 2 * m}}, "two", store.InstallationAwaiting},
		"the first's late news":                         {[]step{{"installed", "one", 0}, {"installed", "two", m}, {"installed", "one", 2 * m}}, "two", store.InstallationAwaiting},
		"the first's late end":                          {[]step{{"installed", "one", 0}, {"installed", "two", m}, {"uninstalling", "one", 2 * m}}, "two", store.InstallationAwaiting},
		"old news of one never heard":                   {[]step{{"installed", "two", m}, {"installed", "one", 0}}, "two", store.InstallationActive},
		"old speech of one never heard":                 {[]step{{"installed", "two", m}, {"speaks", "one", 0}}, "two", store.InstallationActive},
		"old speech after the end of all":               {[]step{{"installed", "two", m}, {"uninstalling", "two", 2 * m}, {"speaks", "one", 0}}, "two", store.InstallationUninstalled},
		"new speech while the other speaks":             {[]step{{"installed", "one", 0}, {"speaks", "two", 5 * m}}, "one", store.InstallationActive},
		"new speech after a silence":                    {[]step{{"installed", "one", 0}, {"speaks", "two", 11 * m}}, "two", store.InstallationAwaiting},
		"news after new speech that was not believed":   {[]step{{"installed", "one", 0}, {"speaks", "two", m}, {"installed", "two", m}}, "two", store.InstallationAwaiting},
		"the wrong one was believed":                    {[]step{{"installed", "two", 0}, {"installed", "one", m}, {"speaks", "two", 12 * m}}, "two", store.InstallationAwaiting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, bitbucketsim.Options{})
			for _, s := range story.steps {
				inv := w.invocation(s.who, s.after)
				switch s.what {
				case "installed":
					must(t, w.Installed(t.Context(), inv, ""))
				case "speaks":
					get(w.Invoked(t.Context(), inv, "", time.Time{}))(t)
				case "uninstalling":
					must(t, w.Uninstalling(t.Context(), inv, "", time.Time{}))
				}
			}
			w.wantInstallation(story.who, story.state)
			if n := len(w.texts(`select id::text from signedapproval_installations where state <> 'UNINSTALLED'`)); n > 1 {
				t.Errorf("%d installations", n)
			}
		})
	}
}

func TestTwoReplicasHearAtOnce(t *testing.T) {
	t.Parallel()
	t.Run("of the same installation", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		other, _ := w.replica()
		token := w.robot()
		w.together(20, func(n int) error {
			_, err := []*workspace.Workspaces{w.Workspaces, other}[n%2].Invoked(t.Context(), w.invocation("one", 0), token, time.Now().Add(2*time.Hour))
			return err
		})
		w.wantInstallation("one", store.InstallationActive)
		equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection installed"})
	})
	t.Run("of different ones", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		other, _ := w.replica()
		w.together(10, func(n int) error {
			return []*workspace.Workspaces{w.Workspaces, other}[n%2].Installed(t.Context(), w.invocation(fmt.Sprint(n), time.Duration(n)*time.Second), "")
		})
		w.wantInstallation("9", w.installation().State) // the newest, in whatever order they came
		if n := len(w.texts(`select id::text from signedapproval_installations where state <> 'UNINSTALLED'`)); n != 1 {
			t.Errorf("%d installations", n)
		}
	})
	t.Run("of its end", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		other, _ := w.replica()
		w.invoked("one", 0, 2*time.Hour)
		w.together(6, func(n int) error {
			return []*workspace.Workspaces{w.Workspaces, other}[n%2].Uninstalling(t.Context(), w.invocation("one", time.Second), "", time.Time{})
		})
		w.wantInstallation("one", store.InstallationUninstalled)
		equal(t, "leaves", w.leaves(w.acme), []string{"genesis", "connection installed", "connection uninstalled"})
	})
}

// together runs n calls at once.
func (w *world) together(n int, call func(n int) error) {
	w.t.Helper()
	var group sync.WaitGroup
	failures := make(chan error, n)
	for i := range n {
		group.Go(func() { failures <- call(i) })
	}
	group.Wait()
	close(failures)
	for err := range failures {
		must(w.t, err)
	}
}

// TestAnotherWorkspaceSeesNothing has the app in two workspaces, and everybody ask for the other's.
func TestAnotherWorkspaceSeesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 2*time.Hour)
	theirs := w.invocation("two", 0)
	theirs.Workspace = w.umbrella
	token := get(w.sim.IssueToken(bitbucketsim.TokenRequest{Person: "mallory"}))(t).AccessToken
	get(w.Invoked(t.Context(), theirs, token, time.Now().Add(2*time.Hour)))(t)
	// The same installation cannot speak for both.
	stolen := w.invocation("one", 0)
	stolen.Workspace = w.umbrella
	if i := get(w.Invoked(t.Context(), stolen, token, time.Now().Add(2*time.Hour)))(t); !i.Over() {
		t.Errorf("an installation of another workspace is %s", i.State)
	}
	mallory, alice := w.who("mallory"), w.who("alice")
	_, err := w.Installation(t.Context(), mallory, w.acme)
	refused(t, err, refusal.NotFound)
	_, err = w.Installation(t.Context(), alice, w.umbrella)
	refused(t, err, refusal.NotFound)
	refused(t, w.ConfirmInstallation(t.Context(), mallory, w.acme), refusal.NotFound)
	refused(t, w.ConfirmInstallation(t.Context(), alice, w.umbrella), refusal.NotFound)
	_, _, err = w.SaveRepository(t.Context(), mallory, "session", w.acme, w.app, approvals(1))
	refused(t, err, refusal.NotFound)
	_, _, err = w.SaveRepository(t.Context(), alice, "session", w.acme, w.secret, approvals(1)) // umbrella's repository
	refused(t, err, refusal.NotFound)
	if list, _ := get2(first(w.List(t.Context(), mallory, store.Page{})))(t); slices.ContainsFunc(list, func(one store.Workspace) bool { return one.ID == w.acme }) {
		t.Error("mallory sees acme")
	}
	must(t, w.Uninstalling(t.Context(), theirs, "", time.Time{}))
	w.wantInstallation("one", store.InstallationActive)
}

func TestUninstalling(t *testing.T) {
	t.Parallel()

	t.Run("cancels with the last token and keeps rules and history", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.invoked("one", 0, 2*time.Hour)
		alice := w.who("alice")
		w.saved(w.app, approvals(1))
		w.Workspaces.Cancel = func(ctx context.Context, workspace, repository, why string) ([]string, error) {
			client, err := w.Client(ctx, workspace, bitbucket.Foreground)
			if err == nil {
				_, err = client.Repository(ctx, workspace, w.app)
			}
			left, _ := w.cancel(ctx, workspace, repository, why)
			return append(left, "Something is left."), err
		}
		// Whoever called does not wait for it.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		must(t, w.Uninstalling(gone, w.invocation("one", time.Minute), w.robot(), time.Now().Add(2*time.Hour)))
		must(t, w.Uninstalling(t.Context(), w.invocation("one", 2*time.Minute), "", time.Time{})) // repeated
		equal(t, "cancelled", w.cancelled, []string{w.acme + "/: The app was uninstalled."})
		i := w.installation()
		if i.State != store.InstallationUninstalled || i.SystemToken != "" || i.UninstalledAt == nil {
			t.Errorf("installation %s, token kept: %t", i.State, i.SystemToken != "")
		}
		if c := w.config(w.app); c.State != store.RepositoryAttention || c.Attention == "" {
			t.Errorf("the repository is %s: %q", c.State, c.Attention)
		}
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmUninstalled})
		equal(t, "told", w.texts(`select person_id::text from signedapproval_notices where kind = $1`, store.AlarmUninstalled), []string{alice.ID})
		if sentence := w.texts(`select sentence from signedapproval_alarms where kind = $1`, store.AlarmUninstalled); !strings.HasSuffix(sentence[0], "Something is left.") {
			t.Errorf("the alarm says %q", sentence)
		}
		_, err := w.Client(t.Context(), w.acme, bitbucket.Foreground)
		refused(t, err, refusal.NeedsReconnecting)
		// Who was a member goes on seeing that it is here and what it needs, and can change nothing.
		if got := get(w.Role(t.Context(), alice, w.acme, false))(t); got != store.RoleAdmin {
			t.Errorf("alice is %s", got)
		}
		_, _, err = w.SaveRepository(t.Context(), alice, "session", w.acme, w.app, approvals(2))
		refused(t, err, refusal.NeedsReconnecting)
		if got := get(w.Role(t.Context(), w.who("bob"), w.acme, false))(t); got != store.RoleNone {
			t.Errorf("bob, whom nobody ever asked about, is %s", got)
		}
	})
	t.Run("ends nothing where it cannot be cancelled", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.invoked("one", 0, 2*time.Hour)
		w.cancelErr = errors.New("the database is away")
		if err := w.Uninstalling(t.Context(), w.invocation("one", time.Minute), "", time.Time{}); !errors.Is(err, w.cancelErr) {
			t.Errorf("got %v", err)
		}
		w.wantInstallation("one", store.InstallationActive) // Bitbucket asks again
	})
	t.Run("leaves the gate to a connection that works", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, bitbucketsim.Options{})
		w.connected("alice", w.acme)
		w.invoked("one", 0, 2*time.Hour)
		w.saved(w.app, approvals(1))
		must(t, w.Uninstalling(t.Context(), w.invocation("one", time.Minute), "", time.Time{}))
		equal(t, "cancelled", w.cancelled, nil)
		if who, _ := get2(first2(w.ActsAs(t.Context(), w.acme)))(t); who != workspace.ActsAsConnection {
			t.Errorf("%s acts", who)
		}
		equal(t, "alarms", w.alarms(w.acme), []string{store.AlarmUninstalled})
		must(t, w.call(w.Workspaces))
		must(t, w.EnsureHook(t.Context(), w.acme, w.app))
		if n := len(w.hooks(w.app)); n != 1 {
			t.Errorf("%d webhooks", n)
		}
	})
}

func TestALookAfterTheApp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, bitbucketsim.Options{})
	w.invoked("one", 0, 2*time.Hour)
	must(t, w.Scheduled(t.Context(), w.invocation("one", time.Second)))
	must(t, w.Upgraded(t.Context(), w.invocation("one", 2*time.Second)))
	alice := w.who("alice")
	get(w.Role(t.Context(), alice, w.acme, true))(t)
	must(t, w.refreshJob())
	equal(t, "alarms while Bitbucket calls", w.alarms(w.acme), nil)
	equal(t, "the job", w.refreshState(), []string{"READY"})

	w.sql(`update signedapproval_installations set system_token_expires_at = now() - interval '1 second',
		installed_at = now() - interval '1 day', seen_at = now() - interval '4 hours'`)
	must(t, w.refreshJob())
	equal(t, "alarms after four silent hours", w.alarms(w.acme), []string{store.AlarmTokenMissing})
	equal(t, "told", w.texts(`select person_id::text from signedapproval_notices`), []string{alice.ID})
	if w.installation().SystemToken != "" {
		t.Error("a token whose time is over is kept")
	}
	w.invoked("one", 3*time.Second, 2*time.Hour)
	equal(t, "alarms once a token came", w.alarms(w.acme), nil)

	must(t, w.Uninstalling(t.Context(), w.invocation("one", 4*time.Second), "", time.Time{}))
	must(t, w.Scheduled(t.Context(), w.invocation("one", 5*time.Second)))
	must(t, w.refreshJob())
	equal(t, "the job afterwards", w.refreshState(), []string{"DONE"})
}
