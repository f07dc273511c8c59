package bitbucketsim

// customCheckLine is a custom merge check on the page of a pull request.
type customCheckLine struct {
	ID                              int
	Module, Name, Message           string
	State, Class, When, Where, Rule string
	MayRun                          bool
}

func newCustomCheckLine(r MergeCheckResult, open bool) customCheckLine {
	line := customCheckLine{
		ID: r.Check, Module: r.Module, Name: r.Name, Message: r.Message, State: "not run yet", When: "before the merge",
		Where: "all branches, configured in the settings of the " + r.Level, Rule: "not required: it warns only",
		MayRun: open && !r.OnMerge && r.State != checkRunning,
	}
	if r.OnMerge {
		line.When = "on merge"
	}
	if r.Pattern != "" {
		line.Where = r.Pattern + ", configured in the settings of the " + r.Level
	}
	switch {
	case r.Blocks:
		line.Rule = "required"
	case r.Required:
		line.Rule = "required, which needs a Premium plan: it warns only"
	}
	switch r.State {
	case checkRunning:
		line.State, line.Class = "running", "INPROGRESS"
	case checkPassed:
		line.State, line.Class = "passed", "SUCCESSFUL"
	case checkFailed:
		line.State, line.Class = "failed", "FAILED"
	}
	return line
}
