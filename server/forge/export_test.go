package forge

import "github.com/signedapproval/bitbucket/server/store"

// Jobs are what an event asks for.
func (e Event) Jobs() []store.JobSpec { return e.jobs() }
