package forge

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strings"
)

// The events of an installation's life. The last is no event of Forge's, but the call that it makes
// before it removes the app.
const (
	EventInstalled    = "avi:forge:installed:app"
	EventUpgraded     = "avi:forge:upgraded:app"
	EventUninstalling = "pre-uninstall"
)

// scheduled is the label of the hourly call.
const scheduled = "scheduled"

// life is what a call says about an installation.
type life struct {
	event        string // one of the above
	installation string // the id that the body names, without what comes before the UUID; "" for none
	installer    string // a Bitbucket account id; "" where nobody is named
}

var accountID = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z:_-]{0,127}$`)

// parseLife reads the body of a call about an installation, which a module made. Bodies need not name
// their event: what does not is told by its parts.
func parseLife(raw []byte, module string) (life, error) {
	var b struct {
		EventType    string          `json:"eventType"`
		ID           string          `json:"id"`
		Installer    string          `json:"installerAccountId"`
		Upgrader     string          `json:"upgraderAccountId"`
		App          json.RawMessage `json:"app"`
		Permissions  json.RawMessage `json:"permissions"`
		ContextToken string          `json:"contextToken"`
	}
	if err := json.Unmarshal(unwrap(raw), &b); err != nil {
		return life{}, errors.New("forge: the body is not the JSON of a lifecycle event")
	}
	l := life{event: b.EventType, installation: b.ID[strings.LastIndexByte(b.ID, '/')+1:]}
	if accountID.MatchString(b.Installer) {
		l.installer = b.Installer
	}
	about := b.ID != "" || b.App != nil
	switch {
	case l.event == EventInstalled, l.event == EventUpgraded:
	case l.event != "":
		return life{}, ErrUnknownEvent
	case about && (b.Upgrader != "" || b.Permissions != nil):
		l.event = EventUpgraded
	case about:
		l.event = EventInstalled
	case b.ContextToken != "", module == preUninstall:
		l.event = EventUninstalling
	default:
		return life{}, errors.New("forge: the body does not say what happened to the installation")
	}
	// Of the end, body and token must say the same where the token names the module.
	if module != EndpointLifecycle && (l.event == EventUninstalling) != (module == preUninstall) {
		return life{}, errors.New("forge: the body is not one of the module that made the call")
	}
	return l, nil
}

// Lifecycle follows that the app was installed or upgraded, or is about to be removed. It is mounted at
// /forge/lifecycle.
func (d *Door) Lifecycle(w http.ResponseWriter, r *http.Request) {
	d.handle(w, r, EndpointLifecycle, d.follow)
}

func (d *Door) follow(ctx context.Context, c *call) (string, string, *refused) {
	l, err := parseLife(c.raw, c.inv.ModuleKey)
	if err != nil {
		// Nothing is lost: that the installation is there was noted.
		c.log.WarnContext(ctx, "lifecycle event not understood", "error", err)
		if errors.Is(err, ErrUnknownEvent) {
			return otherEvent, OutcomeUnknownEvent, nil
		}
		return otherEvent, OutcomeUnparsable, nil
	}
	if l.installation != "" && !strings.HasSuffix(c.inv.InstallationID, "/"+strings.ToLower(l.installation)) {
		c.log.WarnContext(ctx, "lifecycle event refused: it is about another installation than its token", "event", l.event)
		return l.event, "", otherInstall
	}
	switch l.event {
	case EventInstalled:
		err = d.options.Installed(ctx, c.inv, l.installer)
	case EventUpgraded:
		err = d.options.Upgraded(ctx, c.inv)
	case EventUninstalling:
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		err = d.options.Uninstalling(last, c.inv, c.systemToken, c.tokenExpires)
	}
	if err != nil {
		return l.event, "", c.failed(ctx, "what happened to the installation cannot be followed", err)
	}
	return l.event, OutcomeFollowed, nil
}

// Scheduled follows the hourly call, which keeps a system token at hand. Its body says nothing that is
// needed. It is mounted at /forge/scheduled.
func (d *Door) Scheduled(w http.ResponseWriter, r *http.Request) {
	d.handle(w, r, EndpointScheduled, func(ctx context.Context, c *call) (string, string, *refused) {
		if err := d.options.Scheduled(ctx, c.inv); err != nil {
			return scheduled, "", c.failed(ctx, "the hourly call cannot be followed", err)
		}
		return scheduled, OutcomeFollowed, nil
	})
}
