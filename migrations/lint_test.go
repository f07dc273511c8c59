package migrations

import (
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// release is one version of the product that was given to operators, and the newest migration in it.
type release struct {
	name   string
	newest int64
}

// releases are all of them, oldest first. A migration of a release is never edited again. Until there is one, the first
// migrations up to baseline are still edited in place.
var releases []release

// baseline is the newest of the migrations that the first release will be made of.
const baseline = 5

// The rules for every migration after the baseline. Servers of the release before go on working while it is applied and
// afterwards, so it only adds, which is to expand; and it holds no lock for long.
//
// What takes something away is a contract: a migration of its own, which says `-- contract: expanded in N` on its first
// line, where migration N made do without what is now taken away. A release that has N must have been there before, so
// that every server that still runs beside this migration knows to do without, and [Apply] waits for the others to go; and it sets signedapproval_schema_floor
// to N, so that servers of before do not start any more.
var rules = []struct {
	why string
	// statement finds what is refused; its first group, where it has one, is a table that may be as new as the migration.
	statement *regexp.Regexp
	// contract says that a contract may do it.
	contract bool
	// not excuses a statement that it finds as well.
	not *regexp.Regexp
}{
	{why: "drops a table, view, function or type", contract: true, statement: re(`^drop (?:table|view|materialized view|function|procedure|type|domain|sequence|schema|role|trigger)\b`)},
	{why: "drops a column", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\bdrop (?:column )?(?:if exists )?[a-z_"]+`), not: re(`\bdrop (?:constraint|not null|default|expression|identity)\b`)},
	{why: "drops a default or an identity", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\bdrop (?:default|identity|expression)\b`)},
	{why: "renames", contract: true, statement: re(`\brename\b.*\bto\b`)},
	{why: "changes a column's type", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\balter (?:column )?\S+ (?:set data )?type\b`)},
	{why: "forbids null in a column that is there", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\bset not null\b`)},
	{why: "adds a column that servers of before do not fill: not null without a default", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\badd (?:column )?.*\bnot null\b`), not: re(`\bdefault\b|\badd constraint\b|\badd check\b`)},
	{why: "adds a constraint that servers of before may break", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\badd (?:constraint|check|unique|primary key|foreign key|exclude)\b`)},
	{why: "adds a constraint with a column, which servers of before may break", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\badd (?:column )?\S+ .*\b(?:unique|primary key)\b`)},
	{why: "adds a unique index that servers of before may break", contract: true, statement: re(`^create unique index (?:concurrently )?(?:if not exists )?(?:\S+ )?on (?:only )?(\S+)`)},
	{why: "takes rights away", contract: true, statement: re(`^revoke\b.* on (?:table )?([a-z_]+)`)},
	{why: "switches row-level security on", contract: true, statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\b(?:enable|force) row level security`)},
	{why: "makes a policy stricter", contract: true, statement: re(`^create policy \S+ on (\S+) as restrictive`)},
	{why: "deletes", contract: true, statement: re(`^(?:delete from|truncate(?: table)?) (\S+)`)},
	{why: "rewrites the table under a lock: a default that is another for each row", statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\badd (?:column )?.*\bdefault\b.*\b(?:gen_random_uuid|random|clock_timestamp|nextval)\b`)},
	{why: "rewrites the table under a lock: a generated or identity column", statement: re(`alter table (?:if exists )?(?:only )?(\S+) .*\badd (?:column )?.*\bgenerated\b`)},
	{why: "locks writers out while an index is made: create it concurrently, in a migration with -- +goose NO TRANSACTION", statement: re(`^create (?:unique )?index (?:if not exists )?(?:\S+ )?on (?:only )?(\S+)`), not: re(`^create (?:unique )?index concurrently`)},
	{why: "goes back: migrations only go forward", statement: re(`\+goose down`)},
}

func re(pattern string) *regexp.Regexp { return regexp.MustCompile(pattern) }

var (
	created = re(`create table (?:if not exists )?(\S+)`)
	floors  = re(`update signedapproval_schema_floor set version = (\d+)`)
)

// lint says what is wrong with a migration.
func lint(version int64, text string, releases []release) (problems []string) {
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	contract := contractLine.FindStringSubmatch(text)
	if contract != nil {
		expanded, err := strconv.ParseInt(contract[1], 10, 64)
		if err != nil {
			bad("the version of the expanding migration cannot be read")
		}
		before := false
		for _, r := range releases {
			before = before || expanded <= r.newest && r.newest < version
		}
		if !before {
			bad("no release of before has migration %d: servers that need what it replaced may still run", expanded)
		}
		floor := floors.FindStringSubmatch(strings.Join(statements(text), "\n"))
		if floor == nil || floor[1] != contract[1] {
			bad("a contract sets the version in signedapproval_schema_floor to the one in which it was expanded")
		}
	} else if strings.Contains(text, "signedapproval_schema_floor") {
		bad("only a contract touches signedapproval_schema_floor")
	}
	fresh := map[string]bool{}
	for _, statement := range statements(text) {
		for _, table := range created.FindAllStringSubmatch(statement, -1) {
			fresh[strings.Trim(table[1], "(")] = true
		}
		for _, rule := range rules {
			found := rule.statement.FindStringSubmatch(statement)
			if found == nil || rule.not != nil && rule.not.MatchString(statement) ||
				len(found) > 1 && fresh[strings.TrimRight(found[1], "(,;")] || rule.contract && contract != nil {
				continue
			}
			bad("%s: %.120s", rule.why, statement)
		}
	}
	return problems
}

// statements takes a migration apart: in lower case, without comments, in one line each. What a do block carries out is
// looked at as well, also where it is put together as a text; what a function does when it is called is not.
func statements(text string) (list []string) {
	text = strings.ToLower(text)
	text = re(`(?s)(create (?:or replace )?function.*?as )(\$[a-z]*\$).*?\$[a-z]*\$`).ReplaceAllString(text, "$1''")
	if strings.Contains(text, "+goose down") {
		list = append(list, "+goose down")
	}
	text = re(`--[^\n]*`).ReplaceAllString(text, "")
	text = re(`(?s)/\*.*?\*/`).ReplaceAllString(text, "")
	for _, part := range re(`;|\bexecute\s+(?:format\s*\(\s*)?'|\bthen\b|\bloop\b|\bbegin\b`).Split(text, -1) {
		if part = strings.Join(strings.Fields(part), " "); part != "" {
			list = append(list, part)
		}
	}
	return list
}

func TestMigrationsLetServersOfBeforeGoOn(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(Files, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for _, file := range files {
		digits, _, _ := strings.Cut(file, "_")
		version, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || len(digits) != 4 || version != last+1 {
			t.Fatalf("%s does not follow %04d", file, last)
		}
		last = version
		text, err := Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if version <= baseline {
			continue
		}
		for _, problem := range lint(version, string(text), releases) {
			t.Errorf("%s: %s", file, problem)
		}
	}
	if last < baseline {
		t.Errorf("the baseline ends with %d, and the last migration is %d", baseline, last)
	}
	// The rules see something: this one of the baseline could not be applied beside servers of before.
	first, err := Files.ReadFile("0002_forge.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(lint(2, string(first), nil)) == 0 {
		t.Error("nothing is wrong with a migration that makes a policy and changes a table of before")
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	released := []release{{"1.0", 5}, {"1.1", 7}}
	const floor = "update signedapproval_schema_floor set version = 7;"
	for _, test := range []struct {
		name, text string
		want       string // a part of what is said; "" for nothing
	}{
		{"a table", "create table signedapproval_x (id uuid primary key, n int not null unique); create index on signedapproval_x (n);", ""},
		{"a table that is made safe", "create table signedapproval_x (\n id uuid\n); alter table signedapproval_x enable row level security; revoke all on signedapproval_x from public;", ""},
		{"a column", "alter table signedapproval_jobs add column note text;", ""},
		{"a column with a default", "alter table signedapproval_jobs add column note text not null default '';", ""},
		{"an index", "-- +goose NO TRANSACTION\n-- +goose Up\ncreate index concurrently signedapproval_jobs_note on signedapproval_jobs (note);", ""},
		{"a right", "grant select on signedapproval_jobs to signedapproval_app;", ""},
		{"another body of a function", "create or replace function signedapproval_f() returns void language sql as $$ delete from signedapproval_jobs $$;", ""},
		{"a comment", "-- drop table signedapproval_jobs;\n/* rename a to b */ select 1;", ""},
		{"null is allowed", "alter table signedapproval_jobs alter column workspace_id drop not null;", ""},
		{"a constraint goes", "alter table signedapproval_jobs drop constraint signedapproval_jobs_state_check;", ""},

		{"a table goes", "drop table signedapproval_jobs;", "drops a table"},
		{"a table goes, over two lines", "DROP\n\tTABLE if exists signedapproval_jobs;", "drops a table"},
		{"a function goes", "drop function signedapproval_unattended(integer);", "drops a table, view, function"},
		{"a column goes", "alter table signedapproval_jobs drop column payload;", "drops a column"},
		{"a column goes, said shortly", "alter table signedapproval_jobs drop payload;", "drops a column"},
		{"a column goes, in a text", "do $$ begin execute format('alter table %I drop column payload', 'signedapproval_jobs'); end $$;", "drops a column"},
		{"a default goes", "alter table signedapproval_jobs alter column seq drop default;", "drops a default"},
		{"a table is renamed", "alter table signedapproval_jobs rename to signedapproval_work;", "renames"},
		{"a column is renamed", "alter table signedapproval_jobs rename column key to name;", "renames"},
		{"another type", "alter table signedapproval_jobs alter column seq type integer;", "type"},
		{"another type, in full", "alter table signedapproval_jobs alter seq set data type integer;", "type"},
		{"no null", "alter table signedapproval_jobs alter column workspace_id set not null;", "forbids null"},
		{"a column that must be filled", "alter table signedapproval_jobs add column note text not null;", "do not fill"},
		{"a check", "alter table signedapproval_jobs add constraint c check (seq > 1) not valid;", "constraint"},
		{"a reference", "alter table signedapproval_jobs add foreign key (workspace_id) references signedapproval_workspaces;", "constraint"},
		{"a unique column", "alter table signedapproval_jobs add column note text unique;", "constraint with a column"},
		{"a unique index", "create unique index concurrently signedapproval_one on signedapproval_jobs (seq);", "unique index"},
		{"a right goes", "revoke update on signedapproval_jobs from signedapproval_app;", "rights"},
		{"security is switched on", "alter table signedapproval_jobs enable row level security;", "row-level security"},
		{"a stricter policy", "create policy p on signedapproval_pull_requests as restrictive to signedapproval_app using (true);", "stricter"},
		{"rows go", "delete from signedapproval_jobs;", "deletes"},
		{"all rows go", "truncate table signedapproval_jobs;", "deletes"},
		{"each row gets something else", "alter table signedapproval_jobs add column n uuid not null default gen_random_uuid();", "rewrites"},
		{"each row gets a number", "alter table signedapproval_jobs add column n bigint generated always as identity;", "rewrites"},
		{"an index under a lock", "create index on signedapproval_jobs (seq);", "locks writers out"},
		{"an index under a lock, with a name", "create index if not exists signedapproval_n on signedapproval_jobs (seq);", "locks writers out"},
		{"back", "select 1;\n-- +goose Down\nselect 2;", "goes back"},
		{"the floor without a contract", floor, "only a contract"},

		{"a contract", "-- contract: expanded in 7\nalter table signedapproval_jobs drop column payload; " + floor, ""},
		{"a contract of what was never released", "-- contract: expanded in 8\ndrop table signedapproval_x; update signedapproval_schema_floor set version = 8;", "no release of before"},
		{"a contract of itself", "-- contract: expanded in 9\ndrop table signedapproval_x; update signedapproval_schema_floor set version = 9;", "no release of before"},
		{"a contract that lets old servers start", "-- contract: expanded in 7\ndrop table signedapproval_x;", "signedapproval_schema_floor"},
		{"a contract with another floor", "-- contract: expanded in 7\ndrop table signedapproval_x; update signedapproval_schema_floor set version = 6;", "signedapproval_schema_floor"},
		{"a contract that locks", "-- contract: expanded in 7\ncreate index on signedapproval_jobs (seq); " + floor, "locks writers out"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			problems := strings.Join(lint(9, test.text, released), "\n")
			if test.want == "" && problems != "" || !strings.Contains(problems, test.want) {
				t.Errorf("said %q, want %q", problems, test.want)
			}
		})
	}
}
