package bitbucketsim

import (
	"cmp"
	"time"
)

// ForgeOptions are the settings of the part that plays Forge. The zero value behaves as Atlassian documents it.
type ForgeOptions struct {
	// InvocationTokenLifetime is how long a Forge Invocation Token is good for; 0 means 25 seconds.
	InvocationTokenLifetime time.Duration
	// TokenLifetime is how long the OAuth tokens in the headers of an invocation are good for; 0 means two hours.
	TokenLifetime time.Duration
	// EventTimeout is how long the remote may take over an event, a schedule or a merge check; 0 means five
	// seconds. The time that a merge check has is not documented.
	EventTimeout time.Duration
	// RetryPause is how long an event that failed waits before each of its retries; 0 means one minute.
	// Sim.RetryForgeEvents ends all waiting.
	RetryPause time.Duration
	// UninstallTimeout is how long the remote may take over preUninstall; 0 means 55 seconds.
	UninstallTimeout time.Duration
	// RemoteTimeout is how long the remote may take over a call from a page; 0 means 25 seconds.
	RemoteTimeout time.Duration
	// Senders is how many events of one installation are sent at the same time; 0 means one, which keeps them in
	// order.
	Senders int
	// FrameAddr is the address on which Start serves the pages of apps, each under a name of its own below
	// cdn.localhost; empty means a free port of 127.0.0.1.
	FrameAddr string
	// ThemeFile is the path of a style sheet that a page gets when it enables theming, as Forge gives it
	// Atlassian's design tokens; empty means that only the attributes of the colour mode are set.
	ThemeFile string
}

func (o ForgeOptions) withDefaults() ForgeOptions {
	set := func(d *time.Duration, fallback time.Duration) {
		if *d == 0 {
			*d = fallback
		}
	}
	set(&o.InvocationTokenLifetime, 25*time.Second)
	set(&o.TokenLifetime, 2*time.Hour)
	set(&o.EventTimeout, 5*time.Second)
	set(&o.RetryPause, time.Minute)
	set(&o.UninstallTimeout, 55*time.Second)
	set(&o.RemoteTimeout, 25*time.Second)
	o.Senders = max(o.Senders, 1)
	o.FrameAddr = cmp.Or(o.FrameAddr, "127.0.0.1:0")
	return o
}

// maxForgeRetries is how often an event that failed is sent again.
const maxForgeRetries = 4
