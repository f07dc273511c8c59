package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/signedapproval/bitbucket/server/evidence"
	"github.com/signedapproval/bitbucket/server/monitor"
)

// exitAlarm is the exit code of a monitor that found something.
const exitAlarm = 3

type monitorCommand struct {
	Follow   monitorFollowCommand   `cmd:"" default:"withargs" help:"Follow the log, and say where it is not what it should be."`
	Compare  monitorCompareCommand  `cmd:"" help:"Compare what two monitors were shown, offline."`
	Findings monitorFindingsCommand `cmd:"" help:"Print everything that a monitor ever found."`
}

type monitorFollowCommand struct {
	remote
	Anchors   string        `help:"The anchors file: the log with its keys, and who has to cosign." required:"" type:"existingfile"`
	State     string        `help:"The folder in which the monitor keeps what it needs; it is made where it is absent." required:"" type:"path"`
	Openings  bool          `help:"Replay the roster, the policies and the protection of --workspace too. Needs an API token."`
	Workspace string        `help:"The workspace's UUID or slug."`
	Mine      string        `help:"A file with your own keys: alarm on any other under your name, or for your account." type:"existingfile"`
	Gossip    []string      `help:"A checkpoint that somebody else was shown; may be given again." type:"existingfile"`
	Once      bool          `help:"Read what is new and exit."`
	Interval  time.Duration `help:"How long to wait between two looks." default:"1m"`
	Late      time.Duration `help:"How far the times of leaves may be off." default:"10m"`
	JSON      bool          `help:"Print each finding as a line of JSON."`
}

// Run exits 0 when nothing was found, 3 after an alarm, and 1 when the log could not be followed.
func (c *monitorFollowCommand) Run(ctx context.Context, s streams) (err error) {
	switch {
	case c.Openings && c.Workspace == "":
		return errors.New("--openings are those of a workspace: give --workspace too")
	case c.Interval < time.Second || c.Late < time.Second:
		return errors.New("--interval and --late are at least a second")
	}
	anchors, err := readAnchors(c.Anchors)
	if err != nil {
		return err
	}
	client, err := c.client(c.Openings)
	if err != nil {
		return err
	}
	printer := findingPrinter{streams: s, json: c.JSON}
	options := monitor.Options{Client: client, Anchors: anchors, Late: c.Late, Tell: printer.print}
	if c.Mine != "" {
		if options.Mine, err = readMine(c.Mine); err != nil {
			return err
		}
		if len(options.Mine.Accounts) > 0 && !c.Openings {
			return errors.New("--mine lists accounts, and only openings tell for which account a key is: give --openings too")
		}
	}
	var gossip [][]byte
	for _, path := range c.Gossip {
		note, err := readFile(path, maxSmall)
		if err != nil {
			return err
		}
		gossip = append(gossip, note)
	}
	if c.Openings {
		at, err := locate(ctx, client, c.Workspace, "")
		if err != nil {
			return err
		}
		options.Workspace = at.workspace
	}
	if options.State, err = monitor.OpenState(c.State, false); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, options.State.Close()) }()
	m, err := monitor.New(options)
	if err != nil {
		return err
	}
	for {
		err := m.Pass(ctx)
		for i := 0; i < len(gossip) && err == nil; i++ {
			if err = m.Gossip(gossip[i]); err == nil {
				err = m.Told()
			}
		}
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(s.err, "signedapproval: the log could not be followed:", plainLines(err.Error()))
		}
		if c.Once || ctx.Err() != nil {
			return printer.outcome(err != nil && ctx.Err() == nil)
		}
		select {
		case <-ctx.Done():
			return printer.outcome(err != nil)
		case <-time.After(c.Interval):
		}
	}
}

// findingPrinter prints findings.
type findingPrinter struct {
	streams
	json   bool
	alarms int
}

func (p *findingPrinter) print(f monitor.Finding) error {
	if !f.Notice {
		p.alarms++
	}
	if p.json {
		return json.NewEncoder(p.out).Encode(f)
	}
	_, err := fmt.Fprintln(p.out, f)
	return err
}

func (p *findingPrinter) outcome(lost bool) error {
	switch {
	case p.alarms > 0:
		return exit(exitAlarm)
	case lost:
		return exit(1)
	}
	return nil
}

// mineFormat names the format of the file with somebody's own keys.
const mineFormat = "signedapproval.keys/v1"

func readMine(path string) (*monitor.Mine, error) {
	raw, err := readFile(path, maxSmall)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Format string `json:"format"`
		monitor.Mine
	}
	if err := evidence.CheckJSON(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if doc.Format != mineFormat || len(doc.People)+len(doc.Accounts) == 0 {
		return nil, fmt.Errorf("%s: it must have the format %s and name at least one person or account", path, mineFormat)
	}
	for _, key := range doc.Keys {
		if !key.Valid() {
			return nil, fmt.Errorf("%s: a key is named by 64 hexadecimal digits in lower case", path)
		}
	}
	return &doc.Mine, nil
}

type monitorCompareCommand struct {
	A       string `arg:"" type:"existingdir" help:"The state of one monitor."`
	B       string `arg:"" type:"existingdir" help:"The state of another."`
	Anchors string `help:"The anchors file." required:"" type:"existingfile"`
	Proof   string `help:"Where the logs differ, write the two signed checkpoints into this folder." type:"path"`
	JSON    bool   `help:"Print the comparison as JSON."`
}

// Run exits 0 when one of the two logs begins with the other, and 3 when they are two.
func (c *monitorCompareCommand) Run(s streams) (err error) {
	anchors, err := readAnchors(c.Anchors)
	if err != nil {
		return err
	}
	a, err := monitor.OpenState(c.A, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	b, err := monitor.OpenState(c.B, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	compared, err := monitor.Compare(a, b, anchors)
	if err != nil {
		return err
	}
	if !compared.Same && c.Proof != "" {
		if err := keepNotes(c.Proof, compared); err != nil {
			return err
		}
	}
	if err := c.print(s, compared); err != nil || compared.Same {
		return err
	}
	return exit(exitAlarm)
}

func keepNotes(folder string, compared monitor.Comparison) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return errors.Join(
		monitor.WriteFile(filepath.Join(folder, "a.checkpoint"), []byte(compared.Notes[0]), 0o600),
		monitor.WriteFile(filepath.Join(folder, "b.checkpoint"), []byte(compared.Notes[1]), 0o600),
	)
}

func (c *monitorCompareCommand) print(s streams, compared monitor.Comparison) (err error) {
	switch {
	case c.JSON:
		err = json.NewEncoder(s.out).Encode(compared)
	case compared.Same:
		_, err = fmt.Fprintf(s.out, "One log, of %d and %d leaves.\n", compared.Sizes[0], compared.Sizes[1])
	default:
		at := "somewhere"
		if compared.FirstOther != nil {
			at = fmt.Sprintf("from leaf %d on", *compared.FirstOther)
		}
		_, err = fmt.Fprintf(s.out, "ALARM %s: the log's key signed two logs, which differ %s. These two checkpoints prove it:\n\n%s\n%s",
			monitor.Fork, at, compared.Notes[0], compared.Notes[1])
	}
	return err
}

type monitorFindingsCommand struct {
	State string `arg:"" type:"existingdir" help:"The state of a monitor."`
	JSON  bool   `help:"Print each finding as a line of JSON."`
}

// Run exits 0 when there is no alarm among the findings, and 3 when there is one.
func (c *monitorFindingsCommand) Run(s streams) (err error) {
	state, err := monitor.OpenState(c.State, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	printer := findingPrinter{streams: s, json: c.JSON}
	if err := state.Findings(printer.print); err != nil {
		return err
	}
	return printer.outcome(false)
}
