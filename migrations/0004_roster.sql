-- +goose Up

-- The leaf hash of a workspace's genesis: where its roster starts from.
alter table signedapproval_workspaces add column genesis_leaf bytea check (octet_length(genesis_leaf) = 32);

-- Leaves outside of any chain are found by their hash: genesis and roster versions, for their proofs.
create index on signedapproval_leaves (hash) where chain_id = '';

-- The versions of a workspace's roster: what each of them changes, digest-chained from the genesis leaf.
create table signedapproval_roster_versions (
  workspace_id  uuid not null references signedapproval_workspaces,
  version       bigint not null,               -- 1, 2, 3, … without a gap
  digest        text not null,                 -- lower-case hex SHA-256 of document
  document      bytea not null,                -- evidence.RosterChange, RFC 8785
  event         text not null check (event in ('enrolled', 'countersigned', 'revoked')),
  person_id     uuid not null,                 -- whose key it is about
  key_digest    text not null,                 -- lower-case hex, of that key
  compromised   boolean not null default false, -- document says since when the key was in other hands
  leaf_hash     bytea not null check (octet_length(leaf_hash) = 32),
  created_at    timestamptz not null default now(),
  primary key (workspace_id, version)
);
create index on signedapproval_roster_versions (workspace_id) where compromised;
create index on signedapproval_roster_versions (person_id, workspace_id);
-- A key comes into a roster once, and leaves it once; since when it was in other hands can be said again.
create unique index on signedapproval_roster_versions (workspace_id, key_digest, event) where event <> 'countersigned' and not compromised;

alter table signedapproval_roster_versions enable row level security;
alter table signedapproval_roster_versions force row level security;
create policy tenant on signedapproval_roster_versions to signedapproval_app
  using (workspace_id = (select current_setting('app.workspace'))::uuid)
  with check (workspace_id = (select current_setting('app.workspace'))::uuid);
-- Append-only: a version that was signed under must stay what it was.
grant select, insert on signedapproval_roster_versions to signedapproval_app;

-- In whose rosters a person is. Tenantless: a key is changed before any workspace is named, and every roster that has
-- it must follow. Memberships do not tell: who may write to a repository need not be a member of its workspace.
create table signedapproval_roster_people (
  person_id    uuid not null references signedapproval_people,
  workspace_id uuid not null,
  primary key (person_id, workspace_id)
);
grant select, insert on signedapproval_roster_people to signedapproval_app;

-- By what the key was known that made a decision, in the roster that its signer was shown: evidence.Roster.IdentityAt.
alter table signedapproval_decisions add column identity text not null default '';
-- The key that made it: whether it was in other hands at the time may come out later.
alter table signedapproval_decisions add column credential_id bytea;
create index on signedapproval_decisions (credential_id, workspace_id, pull_request_id);

-- What reports of stolen keys took down: each verdict, told by its leaf in the chain, that let something be merged and does not
-- stand any more by what is known of the keys today. It falls once, by the report that was looked at first.
create table signedapproval_fallen_verdicts (
  workspace_id    uuid not null,
  request_id      uuid not null,
  sequence        bigint not null,             -- of the verdict's leaf in the chain of its pull request
  pull_request_id uuid not null,
  roster_version  bigint not null,             -- which reports the key
  was             text not null check (was in ('APPROVED', 'OVERRIDDEN')),
  stands_as       text not null check (stands_as in ('PENDING', 'REJECTED', 'EXPIRED', 'APPROVED')), -- without what stolen keys signed
  merged          boolean not null,            -- by when that was looked at
  found_at        timestamptz not null default now(),
  primary key (workspace_id, request_id, sequence),
  foreign key (workspace_id, request_id) references signedapproval_approval_requests (workspace_id, id),
  foreign key (workspace_id, roster_version) references signedapproval_roster_versions (workspace_id, version)
);
create index on signedapproval_fallen_verdicts (workspace_id, found_at desc, request_id desc);
create index on signedapproval_fallen_verdicts (roster_version, workspace_id);

alter table signedapproval_fallen_verdicts enable row level security;
alter table signedapproval_fallen_verdicts force row level security;
create policy tenant on signedapproval_fallen_verdicts to signedapproval_app
  using (workspace_id = (select current_setting('app.workspace'))::uuid)
  with check (workspace_id = (select current_setting('app.workspace'))::uuid);
grant select, insert on signedapproval_fallen_verdicts to signedapproval_app;

-- ---------------------------------------------------------------------------------------------
-- Erasing a person. What was signed and what the log has stay; what opens and names it goes, and nothing else of a
-- decision or of an answered merge check can be changed.
grant update (account_id, name, openings, comment) on signedapproval_decisions to signedapproval_app;
grant update (account_id, asker_salt, sentence) on signedapproval_merge_checks to signedapproval_app;

-- The one restricted function of erasure: all workspaces. An account can be named in one in which it never signed in.
create policy erase on signedapproval_workspaces for select to current_user using (true);
-- +goose StatementBegin
create function signedapproval_all_workspaces()
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, public, pg_temp as $$ -- pg_temp, unless named, comes first
  select w.workspace_id from signedapproval_workspaces w order by w.workspace_id
$$;
-- +goose StatementEnd
revoke all on function signedapproval_all_workspaces() from public;
grant execute on function signedapproval_all_workspaces() to signedapproval_app;

-- One row: on which metadata of authenticators verdicts rest. A server that begins writes its own here, unless that is older,
-- before it compares with it what is open; from then on servers with other metadata judge nothing that asks for models.
create table signedapproval_models (
  singleton boolean primary key default true check (singleton),
  number    bigint not null,                   -- of the BLOB; 0 before there was any
  digest    text not null                      -- lower-case hex SHA-256 of the snapshot; '' before there was any
);
insert into signedapproval_models (number, digest) values (0, '');
grant select, update on signedapproval_models to signedapproval_app;
