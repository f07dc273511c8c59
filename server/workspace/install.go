package workspace

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/signedapproval/bitbucket/server/atlassian"
	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/store"
)

const (
	// lateness outlives every repetition of an event: Bitbucket repeats four times, 60 s apart, and each
	// time with an invocation token of that minute. So what an installation says within it may be old news;
	// what it says later, it says because it is there.
	lateness = 10 * time.Minute
	// hearPause is how precisely the time is kept at which an installation was last heard.
	hearPause = time.Minute
	// tokenGain is how much longer a token must live to take the place of one that works: each event
	// brings one, and most of them are not worth a write.
	tokenGain = 5 * time.Minute
	// maxTokenLife bounds what is believed of a token's end; Bitbucket's live four hours at most.
	maxTokenLife = 24 * time.Hour
	// maxToken bounds a system token, in bytes.
	maxToken = 16 << 10
	// uninstallPatience bounds the work of an uninstallation, whether its caller waits for it or not.
	uninstallPatience = 45 * time.Second
	// knownAdministrator is how old our knowledge of an administrator may be who is told what happened.
	knownAdministrator = 90 * 24 * time.Hour
)

// news is what comes along with an invocation.
type news struct {
	token     store.Secret // acts for the app until expires; "" where none came
	expires   time.Time
	announced bool   // Bitbucket says that the app was installed
	installer string // who did it, a Bitbucket account id; "" where it does not say
}

// Invoked takes note of an invocation whose token was verified, before anything else is done with it,
// and answers the installation that it came from. An installation that is heard for the first time is
// registered, since its own event may have been lost. A system token that lives longer than the one that
// is held is kept; the first one after a while rings what waited for it.
//
// State UNINSTALLED means that the invocation is not to be followed: it came from an installation that
// is over, or that another has taken the place of. It stays over for as long as what it says may be a
// repetition; afterwards it is there again, to be confirmed.
func (w *Workspaces) Invoked(ctx context.Context, inv atlassian.Invocation, systemToken string, tokenExpiry time.Time) (store.Installation, error) {
	return w.hear(ctx, inv, news{token: store.Secret(systemToken), expires: tokenExpiry})
}

// Installed follows the event that the app was installed. installer is a Bitbucket account id, "" where
// the event names nobody. It may come late, twice, or never.
func (w *Workspaces) Installed(ctx context.Context, inv atlassian.Invocation, installer string) error {
	_, err := w.hear(ctx, inv, news{announced: true, installer: installer})
	return err
}

// Upgraded follows the event that an installation has a new major version.
func (w *Workspaces) Upgraded(ctx context.Context, inv atlassian.Invocation) error {
	i, err := w.hear(ctx, inv, news{})
	if err == nil {
		w.log.InfoContext(ctx, "app upgraded", "workspace", inv.Workspace, "installation", inv.InstallationID, "version", i.AppVersion)
	}
	return err
}

// Scheduled follows the hourly call, whose worth is the token that Invoked was given with it. It sees to
// it that the workspace is looked after.
func (w *Workspaces) Scheduled(ctx context.Context, inv atlassian.Invocation) error {
	i, err := w.hear(ctx, inv, news{})
	if err != nil || i.Over() {
		return err
	}
	return w.store.InWorkspace(ctx, inv.Workspace, func(tx *store.Tx) error {
		now, err := tx.Now(ctx)
		if err != nil {
			return err
		}
		return tx.Enqueue(ctx, refreshJob(inv.Workspace, now.Add(checkInterval)))
	})
}

// hear is what all invocations have in common. Most of them bring nothing new and cost one read.
func (w *Workspaces) hear(ctx context.Context, inv atlassian.Invocation, n news) (store.Installation, error) {
	var known *store.Installation
	var now time.Time
	err := w.store.InWorkspace(ctx, inv.Workspace, func(tx *store.Tx) (err error) {
		if now, err = tx.Now(ctx); err != nil {
			return err
		}
		known, err = installationOf(ctx, tx, inv)
		return err
	})
	if err != nil {
		return store.Installation{}, err
	}
	if known != nil && known.Over() && !returns(*known, inv) {
		return *known, nil
	}
	if known != nil && !known.Over() && !n.worth(*known, now) && !differs(*known, inv, n) {
		return *known, nil
	}
	var i store.Installation
	err = w.store.InWorkspace(ctx, inv.Workspace, func(tx *store.Tx) error {
		i, err = w.register(ctx, tx, inv, n)
		return err
	})
	return i, err
}

func installationOf(ctx context.Context, tx *store.Tx, inv atlassian.Invocation) (*store.Installation, error) {
	i, err := tx.InstallationOf(ctx, inv.InstallationID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &i, err
}

// returns tells whether an installation that is over says so late that it is there after all.
func returns(over store.Installation, inv atlassian.Invocation) bool {
	return over.UninstalledAt != nil && inv.IssuedAt.After(over.UninstalledAt.Add(lateness))
}

// worth tells whether the token that came along is worth keeping.
func (n news) worth(i store.Installation, now time.Time) bool {
	switch {
	case n.token == "" || len(n.token) > maxToken, n.expires.Before(now.Add(tokenMargin)), n.expires.After(now.Add(maxTokenLife)):
		return false
	case !i.TokenLives(now, tokenMargin):
		return true
	}
	return n.expires.After(i.TokenExpiresAt.Add(tokenGain))
}

// differs tells whether an invocation says anything else of its installation than is known.
func differs(i store.Installation, inv atlassian.Invocation, n news) bool {
	newer := inv.IssuedAt.After(i.SeenAt)
	return inv.IssuedAt.Sub(i.SeenAt) >= hearPause || n.installer != "" && n.installer != i.InstalledBy ||
		newer && (inv.APIBaseURL != i.APIBaseURL || inv.AppVersion != "" && inv.AppVersion != i.AppVersion)
}

// register is the transaction of hear. The row of the workspace makes all that hear anew wait for each
// other, on whatever replica.
func (w *Workspaces) register(ctx context.Context, tx *store.Tx, inv atlassian.Invocation, n news) (store.Installation, error) {
	workspace, created, err := tx.RegisterWorkspace(ctx)
	if err != nil {
		return store.Installation{}, err
	}
	if created {
		if err := appendGenesis(ctx, tx, workspace); err != nil {
			return store.Installation{}, err
		}
	}
	s, err := lockStanding(ctx, tx)
	if err != nil {
		return store.Installation{}, err
	}
	i, err := installationOf(ctx, tx, inv)
	if err != nil {
		return store.Installation{}, err
	}
	switch {
	case i != nil && !i.Over():
		if differs(*i, inv, n) {
			heard := *i
			heard.InstalledBy = n.installer
			if inv.IssuedAt.After(i.SeenAt) {
				heard.SeenAt, heard.APIBaseURL = inv.IssuedAt, inv.APIBaseURL
				if inv.AppVersion != "" {
					heard.AppVersion = inv.AppVersion
				}
			}
			if err := tx.HearInstallation(ctx, heard); err != nil {
				return store.Installation{}, err
			}
		}
	case succeeds(i, s, inv, n.announced):
		if err := w.install(ctx, tx, workspace, s, inv, n); err != nil {
			return store.Installation{}, err
		}
	case i != nil:
		return *i, nil
	default:
		w.log.InfoContext(ctx, "app's invocation came late", "workspace", inv.Workspace, "installation", inv.InstallationID)
		return store.Installation{
			WorkspaceID: inv.Workspace, InstallationID: inv.InstallationID, Environment: inv.Environment, State: store.InstallationUninstalled,
		}, nil
	}
	present, err := tx.InstallationOf(ctx, inv.InstallationID)
	if err != nil || !n.worth(present, s.now) {
		return present, err
	}
	if err := w.keepToken(ctx, tx, workspace, present, n, s.now); err != nil {
		return store.Installation{}, err
	}
	return tx.InstallationOf(ctx, inv.InstallationID)
}

// succeeds tells whether an installation that is not the workspace's becomes it. known is what is known
// of it: nil, or that it is over.
//
// Where the workspace has another one that speaks, only the news that this one was installed replaces it,
// and only if it is newer than what the other said last; without that news, the other must have been
// silent for as long as old news may come.
func succeeds(known *store.Installation, s standing, inv atlassian.Invocation, announced bool) bool {
	if known != nil && !returns(*known, inv) {
		return false
	}
	switch {
	case s.app == nil:
		return true
	case !s.installed():
		return known != nil || inv.IssuedAt.After(s.app.SeenAt)
	case announced && known == nil:
		return inv.IssuedAt.After(s.app.SeenAt)
	}
	return inv.IssuedAt.After(s.app.SeenAt.Add(lateness))
}

// install makes an installation the workspace's. Where there is data of before, an administrator has to
// say that they go together.
func (w *Workspaces) install(ctx context.Context, tx *store.Tx, workspace store.Workspace, s standing, inv atlassian.Invocation, n news) error {
	if s.installed() {
		w.log.WarnContext(ctx, "app's installation was replaced", "workspace", inv.Workspace, "installation", s.app.InstallationID, "by", inv.InstallationID)
		if err := tx.EndInstallation(ctx, s.app.ID); err != nil {
			return err
		}
		if err := appendLeaf(ctx, tx, workspace, evidence.Connection{Event: "uninstalled"}); err != nil {
			return err
		}
	}
	gated, err := tx.WasGated(ctx)
	if err != nil {
		return err
	}
	state := store.InstallationActive
	if gated || s.app != nil {
		state = store.InstallationAwaiting
	}
	i, err := tx.PutInstallation(ctx, store.Installation{
		InstallationID: inv.InstallationID, Environment: inv.Environment, State: state, AppVersion: inv.AppVersion,
		APIBaseURL: inv.APIBaseURL, InstalledBy: n.installer, SeenAt: inv.IssuedAt,
	})
	if err != nil {
		return err
	}
	w.log.InfoContext(ctx, "app installed", "workspace", inv.Workspace, "installation", inv.InstallationID, "state", state)
	if err := tx.CloseAlarm(ctx, store.AlarmUninstalled, workspace.ID); err != nil {
		return err
	}
	if state == store.InstallationAwaiting {
		sentence := "The app was installed in " + workspace.Name + ", which was gated before. Its rules and its history are kept. " +
			"Nothing is written to Bitbucket until an administrator of the workspace confirms that they go together."
		if err := w.alarmAdministrators(ctx, tx, s, store.AlarmUnconfirmed, i.ID, "Confirm the app in "+workspace.Name, sentence); err != nil {
			return err
		}
	}
	installer, err := personOf(ctx, tx, n.installer)
	if err != nil {
		return err
	}
	if err := tx.Enqueue(ctx, refreshJob(workspace.ID, s.now)); err != nil { // it finds out what the workspace is called
		return err
	}
	return appendLeaf(ctx, tx, workspace, evidence.Connection{Event: "installed", Person: installer})
}

// personOf gives our id of an account; "" for one that never came here.
func personOf(ctx context.Context, tx *store.Tx, accountID string) (string, error) {
	if accountID == "" {
		return "", nil
	}
	people, err := tx.PeopleByAccounts(ctx, []string{accountID})
	if err != nil || len(people) == 0 {
		return "", err
	}
	return people[0].ID, nil
}

// keepToken stores a token, and rings what waited where none lived before.
func (w *Workspaces) keepToken(ctx context.Context, tx *store.Tx, workspace store.Workspace, i store.Installation, n news, now time.Time) error {
	if err := tx.KeepSystemToken(ctx, i.ID, n.token, n.expires); err != nil {
		return err
	}
	look := refreshJob(workspace.ID, n.expires.Add(time.Minute))
	if workspace.Name == "{"+workspace.ID+"}" {
		look.RunAt = now // nobody could read its name yet
	}
	if err := tx.Enqueue(ctx, look); err != nil {
		return err
	}
	if err := tx.CloseAlarm(ctx, store.AlarmTokenMissing, workspace.ID); err != nil {
		return err
	}
	if i.State != store.InstallationActive || i.TokenLives(now, tokenMargin) {
		return nil
	}
	return tx.AskAgain(ctx, waitingForToken().Code)
}

// alarmAdministrators raises an alarm about the app of the workspace, and tells those who administer the
// workspace, as far as we know them, once for each cause.
func (w *Workspaces) alarmAdministrators(ctx context.Context, tx *store.Tx, s standing, kind, cause, title, sentence string) error {
	if _, err := tx.RaiseAlarm(ctx, store.Alarm{Kind: kind, Subject: tx.Workspace, Sentence: sentence}); err != nil {
		return err
	}
	people, err := tx.Administrators(ctx, tx.Workspace, knownAdministrator)
	if err != nil {
		return err
	}
	if s.connection != nil {
		people = append(people, s.connection.ConnectedBy)
	}
	told := map[string]bool{}
	for _, id := range people {
		if told[id] {
			continue
		}
		told[id] = true
		err := tx.AddNotice(ctx, store.Notice{
			PersonID: id, WorkspaceID: tx.Workspace, Kind: kind, DedupeKey: strings.ToLower(kind) + ":" + cause + ":" + id,
			Title: title, Sentence: sentence, Path: "/settings/bitbucket",
		})
		if err != nil {
			return err
		}
	}
	return nil
}
