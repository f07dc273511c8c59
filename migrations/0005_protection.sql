-- +goose Up

-- By whose signatures a workspace's rules can be changed: versions, digest-chained. A workspace without one, or with a
-- quorum of 0, is not protected.
create table signedapproval_protections (
  workspace_id uuid not null references signedapproval_workspaces,
  version      bigint not null,               -- 1, 2, 3, … without a gap
  digest       text not null,                 -- lower-case hex SHA-256 of document
  document     bytea not null,                -- evidence.ProtectionDocument, RFC 8785
  quorum       integer not null,
  people       text[] not null,               -- our ids; what document says
  proposal_id  uuid not null,                 -- with whose signatures it came
  created_at   timestamptz not null default now(),
  primary key (workspace_id, version)
);

-- Changes that wait for signatures. Nothing is in force because it is here.
create table signedapproval_proposals (
  workspace_id  uuid not null references signedapproval_workspaces,
  id            uuid not null default gen_random_uuid(),
  kind          text not null check (kind in ('POLICY', 'PROTECTION', 'COUNTERSIGN', 'REVOKE')),
  state         text not null default 'OPEN' check (state in ('OPEN', 'APPLIED', 'WITHDRAWN', 'OUTDATED')), -- expires_at tells of EXPIRED
  repository_id uuid,                          -- POLICY only, as the next two
  slug          text not null default '',
  full_name     text not null default '',
  name          text not null default '',      -- of the repository, or of the key
  credential_id bytea,                         -- COUNTERSIGN and REVOKE only: whose document tells whose it is
  document      bytea not null,                -- PolicyDocument, ProtectionDocument, KeyDocument or RevocationDocument of evidence, RFC 8785
  digest        text not null,                 -- lower-case hex SHA-256 of document
  policy        bytea,                         -- the new policy, RFC 8785; null where the repository is to be gated no longer
  proposed_by   uuid not null,                 -- person
  proposed_via  text not null,                 -- 'session' or 'token:<id>'
  created_at    timestamptz not null default now(),
  expires_at    timestamptz not null,
  closed_at     timestamptz,
  primary key (workspace_id, id),
  check ((repository_id is not null) = (kind = 'POLICY')),
  check ((credential_id is not null) = (kind in ('COUNTERSIGN', 'REVOKE'))),
  check (policy is null or kind = 'POLICY'),
  check ((closed_at is null) = (state = 'OPEN'))
);
create index on signedapproval_proposals (workspace_id, created_at desc, id desc);
create index on signedapproval_proposals (workspace_id, kind) where state = 'OPEN';

-- What people signed for a proposal: one act of each.
create table signedapproval_proposal_acts (
  workspace_id  uuid not null,
  proposal_id   uuid not null,
  person_id     uuid not null,
  credential_id bytea not null,
  key_digest    text not null,                 -- lower-case hex, evidence.Key.Digest of the key that signed
  act           bytea not null,                -- evidence.SignedAct, canonical JSON
  digest        text not null,                 -- lower-case hex SHA-256 of act
  opening       bytea,                         -- opens the act's commitment to its signer; null once erased
  counted       boolean not null default false, -- whether the leaf of what was applied names it
  signed_at     timestamptz not null default now(),
  primary key (workspace_id, proposal_id, person_id),
  foreign key (workspace_id, proposal_id) references signedapproval_proposals (workspace_id, id)
);

-- +goose StatementBegin
do $$
declare t text;
begin
  foreach t in array array['signedapproval_protections', 'signedapproval_proposals', 'signedapproval_proposal_acts'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy tenant on %I to signedapproval_app
      using (workspace_id = (select current_setting(''app.workspace''))::uuid)
      with check (workspace_id = (select current_setting(''app.workspace''))::uuid)', t);
    execute format('grant select, insert on %I to signedapproval_app', t);
  end loop;
end $$;
-- +goose StatementEnd
-- What was proposed and under which protection stays what it was; only where it stands moves on. How somebody called their
-- key, which nobody signs, is erased with them.
grant update (state, closed_at, name) on signedapproval_proposals to signedapproval_app;
grant update (credential_id, key_digest, act, digest, opening, counted, signed_at) on signedapproval_proposal_acts to signedapproval_app;
