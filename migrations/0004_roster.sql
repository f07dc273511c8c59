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
  leaf_hash     bytea not null check (octet_length(leaf_hash) = 32),
  created_at    timestamptz not null default now(),
  primary key (workspace_id, version)
);
create index on signedapproval_roster_versions (workspace_id, person_id);
-- A key comes into a roster once, and leaves it once.
create unique index on signedapproval_roster_versions (workspace_id, key_digest, event) where event <> 'countersigned';

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
