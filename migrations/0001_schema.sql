-- +goose Up

-- Two roles stand behind the product. The owner (whoever runs this migration) owns the tables and
-- serves migrations only; it must not be a member of signedapproval_app, whose policies would bind
-- the two restricted functions below. signedapproval_app is what the server's login is a member of:
-- it owns nothing and cannot bypass row-level security.
-- +goose StatementBegin
do $$
begin
  if not exists (select from pg_roles where rolname = 'signedapproval_app') then
    create role signedapproval_app nologin nobypassrls;
  end if;
exception when duplicate_object or unique_violation then
  null; -- a migration of another database of this cluster was faster
end $$;
-- +goose StatementEnd

-- ---------------------------------------------------------------------------------------------
-- Tenant tables. Each carries workspace_id first in its keys; row-level security is on and forced.
-- A transaction names its workspace with set_config('app.workspace', $1, true); without it every
-- statement on these tables is an error, not an empty answer.
--
-- Of the indexes of all rows, the primary key alone begins with workspace_id; the others begin with what tells rows
-- apart. Of a table that is small, or that it has never analyzed, PostgreSQL takes one workspace's rows for one row, so
-- that any index that begins with the workspace looks as good to it as the right one; a statement is planned once, and
-- would read all rows of the workspace from then on, however many there are later. Of indexes that look alike it takes
-- the one that was made last, so what finds one row stands behind what lists many.

create table signedapproval_workspaces (
  workspace_id  uuid primary key,             -- the Bitbucket workspace UUID
  slug          text not null,
  name          text not null,
  genesis_salt  bytea not null,               -- 32 random bytes: salt of the chain ids of this workspace
  created_at    timestamptz not null default now()
);

create table signedapproval_bitbucket_connections (
  workspace_id           uuid primary key references signedapproval_workspaces,
  state                  text not null check (state in ('ACTIVE', 'NEEDS_RECONNECTING', 'DISCONNECTED')),
  state_reason           text not null default '',
  connected_by           uuid not null,        -- person
  account_id             text not null,        -- the Bitbucket account whose grant this is: author of our statuses
  account_uuid           uuid not null,
  account_name           text not null,
  scopes                 text[] not null,
  access_token           bytea,                -- sealed; null once disconnected
  refresh_token          bytea,                -- sealed
  previous_refresh_token bytea,                -- sealed; kept for one retry, refresh tokens rotate
  access_expires_at      timestamptz,
  generation             bigint not null default 1, -- moves with each stored pair of tokens
  connected_at           timestamptz not null default now(),
  refreshed_at           timestamptz not null default now()
);

create table signedapproval_policy_versions (
  workspace_id   uuid not null references signedapproval_workspaces,
  id             uuid not null default gen_random_uuid(),
  repository_id  uuid not null,
  version        integer not null,
  document       bytea not null,               -- RFC 8785 bytes; immutable; empty where the repository is gated no longer
  digest         text not null,                -- lower-case hex SHA-256 of document; '' where that is empty
  created_by     uuid not null,                -- person
  created_via    text not null,                -- 'session' or 'token:<id>'
  created_at     timestamptz not null default now(),
  primary key (workspace_id, id),
  unique (repository_id, workspace_id, version)
);

create table signedapproval_bitbucket_repo_configs (
  workspace_id      uuid not null references signedapproval_workspaces,
  repository_id     uuid not null,             -- the Bitbucket repository UUID
  slug              text not null,
  full_name         text not null,             -- display only: names change, ids do not
  name              text not null,
  policy_version_id uuid not null,
  hook_id           uuid not null,             -- our id of the webhook endpoint
  state             text not null check (state in ('ACTIVE', 'ATTENTION')),
  attention         text not null default '',  -- why ATTENTION: a sentence for the administrator
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now(),
  reconciled_at     timestamptz,
  reconcile_seconds integer,                   -- the interval the reconciler currently keeps
  primary key (workspace_id, repository_id),
  foreign key (workspace_id, policy_version_id) references signedapproval_policy_versions (workspace_id, id)
);

create table signedapproval_pull_requests (
  workspace_id         uuid not null,
  id                   uuid not null default gen_random_uuid(),
  repository_id        uuid not null,
  number               bigint not null,
  title                text not null,
  state                text not null check (state in ('OPEN', 'MERGED', 'DECLINED', 'SUPERSEDED', 'GONE')),
  draft                boolean not null,
  author_account_id    text not null,          -- '' where Bitbucket names none
  author_name          text not null,
  source_repository_id uuid,                   -- null: the fork is gone
  source_branch        text not null,
  head_commit          text not null check (head_commit ~ '^[0-9a-f]{40}$'),
  destination_branch   text not null,
  status_key           text not null unique,   -- unguessable, stable, at most 40 characters
  chain_id             text not null,
  chain_sequence       bigint not null default 0, -- of the last leaf; 0 = no leaf yet
  chain_leaf           text not null default '',  -- hex hash of the last leaf
  version              bigint not null default 1, -- moves with every change a screen may show
  synced_at            timestamptz not null default now(),
  created_at           timestamptz not null default now(),
  primary key (workspace_id, id),
  unique (number, repository_id, workspace_id)
  -- No reference to the configuration: what was decided outlives it.
);
-- What is walked over again and again is what is open, however much is closed.
create index on signedapproval_pull_requests (workspace_id, repository_id, created_at desc, id desc) where state = 'OPEN';

create table signedapproval_approval_requests (
  workspace_id       uuid not null,
  id                 uuid not null default gen_random_uuid(),
  pull_request_id    uuid not null,
  round              integer not null,         -- 1, 2, … within the pull request
  head_commit        text not null check (head_commit ~ '^[0-9a-f]{40}$'),
  destination_branch text not null,
  policy_version_id  uuid not null,
  rule               bytea not null,           -- RFC 8785 bytes of the rule
  rule_digest        text not null,
  state              text not null check (state in ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'SUPERSEDED', 'CANCELLED', 'OVERRIDDEN')),
  sentence           text not null,
  verdict            jsonb not null,           -- the tally as last computed, for display
  facts              jsonb not null default '{}', -- the facts it was computed from
  outcome_salt       bytea,                    -- opens what the verdict's leaf commits to; null before a verdict and once somebody was erased
  requested_at       timestamptz not null default now(),
  expires_at         timestamptz not null,
  decided_at         timestamptz,              -- when it last became APPROVED or REJECTED
  closed_at          timestamptz,              -- SUPERSEDED or CANCELLED
  primary key (workspace_id, id),
  unique (pull_request_id, workspace_id, round),
  foreign key (workspace_id, pull_request_id) references signedapproval_pull_requests (workspace_id, id)
);
-- At most one request of a pull request is alive.
create unique index on signedapproval_approval_requests (workspace_id, pull_request_id)
  where state in ('PENDING', 'APPROVED', 'REJECTED', 'EXPIRED', 'OVERRIDDEN');
create index on signedapproval_approval_requests (state, workspace_id, requested_at desc, id desc);
create index on signedapproval_approval_requests (head_commit, workspace_id);
create index on signedapproval_approval_requests (expires_at) where state = 'PENDING';

create table signedapproval_decisions (
  workspace_id       uuid not null,
  id                 uuid not null default gen_random_uuid(),
  pull_request_id    uuid not null,
  request_id         uuid not null,
  person_id          uuid not null,
  account_id         text not null,
  name               text not null,
  action             text not null check (action in ('APPROVE', 'REJECT', 'WITHDRAW', 'OVERRIDE')),
  head_commit        text not null,
  destination_branch text not null,
  rule_digest        text not null,
  sequence           bigint not null,          -- the chain sequence of its leaf
  statement          bytea not null,           -- the very bytes that were signed
  assertion          bytea not null,           -- the whole assertion, JSON
  openings           bytea not null,           -- the commitments' openings, JSON
  comment            text not null default '',
  leaf_hash          text not null,
  decided_at         timestamptz not null default now(),
  primary key (workspace_id, id),
  unique (pull_request_id, workspace_id, sequence),
  foreign key (workspace_id, request_id) references signedapproval_approval_requests (workspace_id, id)
);

create table signedapproval_bitbucket_commit_statuses (
  workspace_id    uuid not null,
  pull_request_id uuid not null,
  commit          text not null check (commit ~ '^[0-9a-f]{40}$'),
  repository_id   uuid not null,
  request_id      uuid not null,
  key             text not null,
  refname         text not null,
  state           text not null check (state in ('INPROGRESS', 'SUCCESSFUL', 'FAILED', 'STOPPED')),
  description     text not null,
  url             text not null,
  owed_version    bigint not null default 1,   -- moves when state, description or link change
  paid_version    bigint not null default 0,   -- what Bitbucket has confirmed
  paid_at         timestamptz,
  owed_since      timestamptz not null default now(), -- of what is owed and not confirmed: when it was first owed
  doubt_until     timestamptz,                 -- a call whose outcome is unknown may still land until then
  problem         text not null default '',    -- why it could not be written, for the administrator
  cosignatures    smallint not null default 0, -- of a checkpoint that covers what it says, before SUCCESSFUL is shown
  primary key (workspace_id, pull_request_id, commit),
  foreign key (workspace_id, pull_request_id) references signedapproval_pull_requests (workspace_id, id)
);
create index on signedapproval_bitbucket_commit_statuses (workspace_id, pull_request_id) where owed_version > paid_version;

create table signedapproval_merge_intents (
  workspace_id    uuid not null,
  pull_request_id uuid not null,
  head_commit     text not null,
  request_id      uuid not null,
  strategy        text not null,
  state           text not null check (state in ('PLANNED', 'CALLING', 'MERGED', 'REFUSED')),
  task_id         text not null default '',    -- Bitbucket's merge task while it runs
  sentence        text not null default '',    -- the outcome, for people
  merge_commit    text not null default '',
  created_at      timestamptz not null default now(),
  updated_at      timestamptz not null default now(),
  primary key (workspace_id, pull_request_id, head_commit),
  foreign key (workspace_id, pull_request_id) references signedapproval_pull_requests (workspace_id, id)
);

create index on signedapproval_merge_intents (workspace_id, head_commit) where state = 'PLANNED';

-- Who may do what on a repository, as Bitbucket said; believed for at most five minutes.
create table signedapproval_repository_people (
  workspace_id  uuid not null,
  repository_id uuid not null,
  account_id    text not null,
  account_uuid  uuid,
  name          text not null,
  permission    text not null check (permission in ('none', 'read', 'write', 'admin')),
  fetched_at    timestamptz not null default now(),
  primary key (workspace_id, repository_id, account_id)
);
create table signedapproval_repository_people_lists (
  workspace_id  uuid not null,
  repository_id uuid not null,
  fetched_at    timestamptz not null,          -- when the whole list was last read
  primary key (workspace_id, repository_id)
);

create table signedapproval_alarms (
  workspace_id    uuid not null,
  id              uuid not null default gen_random_uuid(),
  kind            text not null,               -- FOREIGN_STATUS, STATUS_REFUSED, NEEDS_RECONNECTING, HOOK_MISSING, …
  repository_id   uuid,
  pull_request_id uuid,
  subject         text not null,               -- with kind: what an open alarm is about
  sentence        text not null,
  opened_at       timestamptz not null default now(),
  closed_at       timestamptz,
  primary key (workspace_id, id)
);
create unique index on signedapproval_alarms (workspace_id, kind, subject) where closed_at is null;

-- +goose StatementBegin
do $$
declare t text;
begin
  foreach t in array array['signedapproval_workspaces', 'signedapproval_bitbucket_connections',
      'signedapproval_policy_versions', 'signedapproval_bitbucket_repo_configs', 'signedapproval_pull_requests',
      'signedapproval_approval_requests', 'signedapproval_decisions', 'signedapproval_bitbucket_commit_statuses',
      'signedapproval_merge_intents', 'signedapproval_repository_people', 'signedapproval_repository_people_lists',
      'signedapproval_alarms'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    -- No missing_ok: a transaction that named no workspace fails.
    execute format('create policy tenant on %I to signedapproval_app
      using (workspace_id = (select current_setting(''app.workspace''))::uuid)
      with check (workspace_id = (select current_setting(''app.workspace''))::uuid)', t);
    execute format('grant select, insert, update, delete on %I to signedapproval_app', t);
  end loop;
end $$;
-- +goose StatementEnd
revoke update, delete on signedapproval_policy_versions, signedapproval_decisions from signedapproval_app;

-- ---------------------------------------------------------------------------------------------
-- Tenantless tables: no row-level security, each for the reason beside it.

-- People span all their workspaces, and are found by account id before any workspace is known.
create table signedapproval_people (
  id              uuid primary key default gen_random_uuid(),
  account_id      text not null unique,        -- Bitbucket account id
  account_uuid    uuid not null,
  name            text not null,
  salt            bytea not null,              -- 32 random bytes: salt of this person's commitments
  email           text not null default '',    -- confirmed sign-in address, '' if none
  created_at      timestamptz not null default now(),
  signed_in_at    timestamptz not null default now()
);

-- A session belongs to a person, and is found by its token before anything else is known.
create table signedapproval_sessions (
  token_hash   bytea primary key,              -- SHA-256 of the cookie's value
  person_id    uuid references signedapproval_people,  -- null: not signed in yet
  created_at   timestamptz not null default now(),
  seen_at      timestamptz not null default now(),
  expires_at   timestamptz not null
);
create index on signedapproval_sessions (expires_at);

-- An OAuth round trip starts before a workspace is known.
create table signedapproval_oauth_states (
  state_hash    bytea primary key,             -- consumed by the statement that reads it
  session_hash  bytea not null,
  purpose       text not null check (purpose in ('CONNECT', 'SIGN_IN')),
  return_to     text not null,
  created_at    timestamptz not null default now(),
  expires_at    timestamptz not null
);
create index on signedapproval_oauth_states (expires_at);

-- A consent that has not been given to a workspace yet: after it, the administrator picks one.
create table signedapproval_pending_grants (
  id                uuid primary key default gen_random_uuid(),
  person_id         uuid not null references signedapproval_people,
  account_id        text not null,
  account_uuid      uuid not null,
  account_name      text not null,
  scopes            text[] not null,
  access_token      bytea not null,            -- sealed
  refresh_token     bytea not null,            -- sealed
  access_expires_at timestamptz not null,
  created_at        timestamptz not null default now(),
  expires_at        timestamptz not null
);
create index on signedapproval_pending_grants (expires_at);

-- What happens to a person's keys happens one after the other, by whoever holds their row. When a transaction began does not tell
-- that order: it may have waited. What it takes from here while it holds the row does.
create sequence signedapproval_key_changes;

-- Keys belong to people.
create table signedapproval_credentials (
  id                 bytea primary key,        -- WebAuthn credential id
  person_id          uuid not null references signedapproval_people,
  name               text not null,
  public_key         bytea not null unique,    -- COSE in its one form; a key stands for one person for ever, revoked or not
  aaguid             uuid,
  sign_count         bigint not null,
  backup_eligible    boolean not null,         -- must never change
  backup_state       boolean not null,
  transports         text[] not null default '{}',
  attestation_object bytea not null,           -- kept whole
  client_data        bytea not null,
  created_at         timestamptz not null default now(),
  last_used_at       timestamptz,
  -- A key waits, and decides nothing, until it is enrolled. unfinished is the evidence.Enrolment as far as it has come,
  -- enrolment the whole of it; both canonical JSON. The opening, an evidence.PersonOpening, opens the act's commitment
  -- to its signer and can be erased.
  unfinished         bytea,
  enrolment          bytea,
  enrolment_opening  bytea,
  identified_by      text check (identified_by in ('bitbucket-login', 'own-key', 'countersigner')),
  authority_id       bytea references signedapproval_credentials, -- own-key: the key of the same person that signed for it
  enrolled_at        timestamptz,
  revoked_at         timestamptz,
  revoked_by         text check (revoked_by in ('own-key', 'operator')), -- null where it was not enrolled
  revocation         bytea,                    -- canonical JSON of the evidence.SignedAct; null where nobody signed
  revocation_opening bytea,
  compromised_since  timestamptz,              -- only where it was signed: decisions since then do not count
  enrolled_order     bigint not null default 0, -- of signedapproval_key_changes, as what others sign has; 0 until then
  revoked_order      bigint not null default 0,
  check ((enrolled_at is null) = (enrolment is null) and (enrolled_at is null) = (identified_by is null)),
  check ((authority_id is null) = (identified_by is distinct from 'own-key')),
  check ((revoked_by is null) = (revoked_at is null or enrolled_at is null)),
  check ((revocation is null) = (revoked_by is distinct from 'own-key')),
  check (compromised_since is null or revocation is not null)
);
create index on signedapproval_credentials (person_id);
create index on signedapproval_credentials (person_id) where compromised_since is not null;
create index on signedapproval_credentials (created_at) where enrolled_at is null;
-- Only the first key that a person ever enrols rests on the log-in alone, whatever becomes of it: no roster takes another one.
create unique index on signedapproval_credentials (person_id) where identified_by = 'bitbucket-login';

-- That somebody else vouched for a key, or took it out of use, for a workspace and no other. Tenantless as the keys are:
-- a person sees what was done to theirs in all their workspaces. act is the canonical JSON of the evidence.SignedAct.
create table signedapproval_key_countersignatures (
  credential_id bytea not null references signedapproval_credentials,
  workspace_id  uuid not null,
  act           bytea not null,
  agreed        bytea[] not null default '{}', -- what the further people signed where the workspace is protected
  opening       bytea,                         -- opens the act's commitment to its signer; null once erased
  person_id     uuid not null references signedapproval_people, -- who signed
  change_order  bigint not null default nextval('signedapproval_key_changes'),
  created_at    timestamptz not null default now(),
  primary key (credential_id, workspace_id)
);
create table signedapproval_key_revocations (
  credential_id     bytea not null references signedapproval_credentials,
  workspace_id      uuid not null,
  act               bytea not null,
  agreed            bytea[] not null default '{}',
  opening           bytea,
  person_id         uuid not null references signedapproval_people,
  compromised_since timestamptz,
  change_order      bigint not null default nextval('signedapproval_key_changes'),
  created_at        timestamptz not null default now(),
  primary key (credential_id, workspace_id)
);
-- That a key which was revoked before, there or everywhere, had been in other hands since a time. Whoever stole a key can
-- revoke it first, so no revocation is the last word.
create table signedapproval_key_reports (
  id                uuid primary key default gen_random_uuid(),
  credential_id     bytea not null references signedapproval_credentials,
  workspace_id      uuid,                          -- null where a key of the same person signed, which holds wherever that has a voice
  act               bytea not null,
  agreed            bytea[] not null default '{}',
  opening           bytea,
  person_id         uuid not null references signedapproval_people,
  compromised_since timestamptz not null,
  change_order      bigint not null default nextval('signedapproval_key_changes'),
  created_at        timestamptz not null default now()
);
create index on signedapproval_key_reports (credential_id);

-- A ceremony is found by its challenge; a decision's workspace is inside.
create table signedapproval_challenges (
  challenge    bytea primary key,              -- consumed by the statement that reads it
  kind         text not null check (kind in ('REGISTER', 'DECIDE', 'KEY', 'PROPOSAL')),
  person_id    uuid not null references signedapproval_people,
  session_hash bytea not null,
  workspace_id uuid,
  request_id   uuid,
  data         bytea not null,                 -- REGISTER: the ceremony's session; else: what is signed and its openings, JSON
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null
);
create index on signedapproval_challenges (expires_at);

-- Found by its hash before the workspace is known.
create table signedapproval_api_tokens (
  id           uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  person_id    uuid not null references signedapproval_people,
  name         text not null,
  token_hash   bytea not null unique,
  prefix       text not null,                  -- the first characters, to recognise it by
  scopes       text[] not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null,
  last_used_at timestamptz,
  revoked_at   timestamptz
);
create index on signedapproval_api_tokens (workspace_id, person_id);

-- What a person may do in a workspace, as Bitbucket said; believed for at most five minutes.
-- Tenantless: it answers "which workspaces has this person?".
create table signedapproval_memberships (
  person_id    uuid not null references signedapproval_people,
  workspace_id uuid not null,
  role         text not null check (role in ('NONE', 'MEMBER', 'ADMIN')),
  fetched_at   timestamptz not null default now(),
  primary key (person_id, workspace_id)
);
create index on signedapproval_memberships (workspace_id);

-- Notices belong to people.
create table signedapproval_notices (
  -- Begins with its time, like those of store.NewID: several come with each request.
  id              uuid primary key
    default encode(overlay(uuid_send(gen_random_uuid()) placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3) from 1 for 6), 'hex')::uuid,
  person_id       uuid not null references signedapproval_people,
  workspace_id    uuid not null,
  pull_request_id uuid,
  request_id      uuid,
  kind            text not null,
  dedupe_key      text not null unique,
  title           text not null,
  sentence        text not null,
  path            text not null,               -- where it leads, on our origin
  created_at      timestamptz not null default now(),
  read_at         timestamptz,
  mailed_at       timestamptz
);
create index on signedapproval_notices (person_id, created_at desc, id desc);
create index on signedapproval_notices (person_id, workspace_id) where read_at is null;
create index on signedapproval_notices (request_id) where read_at is null;

-- The webhook door finds the secret before it can know the workspace.
create table signedapproval_hook_endpoints (
  id            uuid primary key,
  workspace_id  uuid not null,
  repository_id uuid not null,
  secret        bytea not null,                -- sealed
  hook_uuid     text not null default '',      -- Bitbucket's id of the webhook, '' until made
  created_at    timestamptz not null default now(),
  unique (workspace_id, repository_id)
);

-- Deliveries of all workspaces are committed in one batch. They are a ring of eight weeks, each a partition of its own:
-- what is old enough is emptied as a whole, at once and without touching what is being written, and no partition ever
-- has to be made. The application may keep them for at most six weeks, so that a week is empty before it comes again.
create function signedapproval_delivery_week(at timestamptz) returns smallint
language sql immutable parallel safe as $$ select (floor(extract(epoch from at) / 604800)::bigint % 8)::smallint $$;
create table signedapproval_deliveries (
  request_uuid  uuid not null,                 -- X-Request-UUID: a repeat within this week and the last is a no-op
  week          smallint not null default signedapproval_delivery_week(now()),
  workspace_id  uuid not null,
  repository_id uuid not null,
  event_key     text not null,
  attempt       integer not null,
  outcome       text not null check (outcome in ('PARSED', 'UNKNOWN_EVENT', 'UNPARSABLE')),
  body          bytea not null,                -- zstd of the raw bytes
  received_at   timestamptz not null default now(),
  primary key (request_uuid, week)
) partition by list (week);
alter table signedapproval_deliveries alter column body set storage external;
create index on signedapproval_deliveries (received_at);
-- +goose StatementBegin
do $$
begin
  for week in 0..7 loop
    execute format('create table signedapproval_deliveries_%s partition of signedapproval_deliveries for values in (%s)', week, week);
    execute format('grant select, truncate on signedapproval_deliveries_%s to signedapproval_app', week);
  end loop;
end $$;
-- +goose StatementEnd

-- The ledger of jobs: one row for each thing to look at again. Enqueueing a row that exists moves
-- its seq; finishing it compares seq, so nothing that came meanwhile is lost. fence and
-- leased_until are the lease: whoever holds the newest fence may write.
create table signedapproval_jobs (
  id             bigint generated always as identity primary key,
  kind           text not null,
  key            text not null,
  workspace_id   uuid,
  payload        jsonb not null,               -- ids, never facts
  state          text not null check (state in ('READY', 'DONE', 'DEAD')),
  seq            bigint not null default 1,
  run_at         timestamptz not null,
  attempt        integer not null default 0,   -- failures since the last success
  fence          bigint not null default 0,
  holder         uuid,
  leased_until   timestamptz,
  dispatched_at  timestamptz,
  dispatch_epoch bigint,
  last_error     text not null default '',
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now(),
  unique (kind, key)
);
create index on signedapproval_jobs (run_at) where state = 'READY';
create index on signedapproval_jobs (state, updated_at, id) where state <> 'READY';

-- What ends a transaction whose claim on a job no longer holds, in the middle of what is sent together with its commit.
-- +goose StatementBegin
create function signedapproval_lease_lost() returns boolean
language plpgsql
set search_path = pg_catalog as $$
begin
  raise exception 'the lease is lost' using errcode = 'SA001';
end
$$;
-- +goose StatementEnd
revoke all on function signedapproval_lease_lost() from public;
grant execute on function signedapproval_lease_lost() to signedapproval_app;

-- What was open and is over leaves dead entries in the indexes of what is open, which everybody who looks for what is open
-- reads until they are cleaned up. PostgreSQL would wait until they are a fifth of the whole history, and leave the indexes
-- alone where they are on few pages of a table: these tables are cleaned by count.
-- +goose StatementBegin
do $$
declare t text;
begin
  foreach t in array array['signedapproval_pull_requests', 'signedapproval_approval_requests', 'signedapproval_bitbucket_commit_statuses',
      'signedapproval_merge_intents', 'signedapproval_alarms', 'signedapproval_notices', 'signedapproval_jobs'] loop
    execute format('alter table %I set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_index_cleanup = on)', t);
  end loop;
end $$;
-- +goose StatementEnd

-- One row: which life of the Redis queue this is. A lost Redis gets a new number.
create table signedapproval_queue_epoch (
  singleton boolean primary key default true check (singleton),
  epoch     bigint not null
);
insert into signedapproval_queue_epoch (epoch) values (1);

-- Spent API calls per credential and hour, so that an empty Redis does not mean a full budget.
create table signedapproval_api_budgets (
  token_key text not null,
  hour      timestamptz not null,
  spent     bigint not null,
  primary key (token_key, hour)
);

-- The log is one for all workspaces: that is what makes it a witness.
create table signedapproval_log_head (
  singleton boolean primary key default true check (singleton),
  size      bigint not null
);
insert into signedapproval_log_head (size) values (0);
create table signedapproval_leaves (
  index        bigint primary key,             -- 0, 1, 2, … without a gap
  hash         bytea not null,                 -- RFC 6962 leaf hash of entry
  entry        bytea not null check (octet_length(entry) <= 65535),
  workspace_id uuid not null,
  chain_id     text not null default '',
  sequence     bigint not null default 0,
  created_at   timestamptz not null default now()
);
create unique index on signedapproval_leaves (chain_id, sequence) where chain_id <> '';

grant select, insert, update, delete on signedapproval_people, signedapproval_sessions, signedapproval_oauth_states,
  signedapproval_pending_grants, signedapproval_credentials, signedapproval_challenges, signedapproval_api_tokens,
  signedapproval_memberships, signedapproval_notices, signedapproval_hook_endpoints, signedapproval_deliveries,
  signedapproval_jobs, signedapproval_api_budgets to signedapproval_app;
grant usage on sequence signedapproval_key_changes to signedapproval_app;
grant select, insert, update on signedapproval_key_countersignatures, signedapproval_key_revocations, signedapproval_key_reports to signedapproval_app;
grant select, update on signedapproval_queue_epoch, signedapproval_log_head to signedapproval_app;
-- Append-only: the application can neither change nor remove a leaf.
grant select, insert on signedapproval_leaves to signedapproval_app;

-- ---------------------------------------------------------------------------------------------
-- The one restricted function of the sweep: (workspace, pull request) pairs that owe something
-- and have no job that would look at them. The ledger is written in the same transaction as its
-- cause, so this finds nothing unless somebody deleted jobs by hand.
create policy sweep on signedapproval_pull_requests for select to current_user using (true);
create policy sweep on signedapproval_approval_requests for select to current_user using (true);
create policy sweep on signedapproval_bitbucket_commit_statuses for select to current_user using (true);
-- +goose StatementBegin
create function signedapproval_unattended(most integer)
returns table (workspace_id uuid, pull_request_id uuid)
language plpgsql stable security definer -- which keeps its plan: making it takes ten times as long as carrying it out
set enable_hashagg = off -- it would clear as much memory as a third of all statuses ever need
set search_path = pg_catalog, public, pg_temp as $$ -- pg_temp, unless named, comes first
#variable_conflict use_column
begin
  -- It begins with what is open, by the indexes that hold nothing else, and looks each up: PostgreSQL takes a third of all
  -- statuses ever for owed, and would read the ledger and all pull requests to join them.
  return query select p.workspace_id, p.id
  from (select r.workspace_id, r.pull_request_id as id from signedapproval_approval_requests r
        where r.state = 'PENDING' and r.expires_at < now() - interval '5 seconds'
        union
        select s.workspace_id, s.pull_request_id from signedapproval_bitbucket_commit_statuses s
        where s.owed_version > s.paid_version
          and (select j.state in ('READY', 'DEAD') from signedapproval_jobs j
               where j.kind = 'status' and j.key = s.pull_request_id || ':' || s.commit) is not true) open
  cross join lateral (select * from signedapproval_pull_requests p where p.workspace_id = open.workspace_id and p.id = open.id limit 1) p
  where (select j.state = 'DEAD' or j.state = 'READY' and j.run_at < now() + interval '5 seconds' from signedapproval_jobs j
         where j.kind = 'evaluate' and j.key = p.workspace_id || '/' || p.repository_id || ':' || p.number) is not true
  limit most;
end
$$;
-- +goose StatementEnd
revoke all on function signedapproval_unattended(integer) from public;
grant execute on function signedapproval_unattended(integer) to signedapproval_app;

-- The one restricted function of the keys' rotation: the workspaces that have tokens at rest.
create policy reseal on signedapproval_bitbucket_connections for select to current_user using (true);
-- +goose StatementBegin
create function signedapproval_sealed_workspaces()
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, public, pg_temp as $$ -- pg_temp, unless named, comes first
  select c.workspace_id from signedapproval_bitbucket_connections c
  where c.access_token is not null or c.refresh_token is not null or c.previous_refresh_token is not null
  order by c.workspace_id
$$;
-- +goose StatementEnd
revoke all on function signedapproval_sealed_workspaces() from public;
grant execute on function signedapproval_sealed_workspaces() to signedapproval_app;

-- What the migrations have applied, for the server's readiness.
grant select on signedapproval_schema_versions to signedapproval_app;
-- One row: the oldest version of the schema for which a program may have been built that works on this one. A migration
-- that takes something away raises it to the version since which no program needs that.
create table signedapproval_schema_floor (
  singleton boolean primary key default true check (singleton),
  version   bigint not null
);
insert into signedapproval_schema_floor (version) values (1);
grant select on signedapproval_schema_floor to signedapproval_app;
