-- +goose Up

-- The Forge app in a workspace. An installation is known by its ARI; a reinstallation is another one.
create table signedapproval_installations (
  workspace_id            uuid not null references signedapproval_workspaces,
  id                      uuid not null default gen_random_uuid(),
  installation_id         text not null,       -- ari:cloud:ecosystem::installation/<uuid>
  environment_type        text not null check (environment_type in ('DEVELOPMENT', 'STAGING', 'PRODUCTION')),
  -- AWAITING_CONFIRMATION: the workspace has data of before; an administrator must say that they go together.
  state                   text not null check (state in ('ACTIVE', 'AWAITING_CONFIRMATION', 'UNINSTALLED')),
  app_version             text not null default '',
  api_base_url            text not null,       -- from the invocation token, one of an allow-list
  installed_by            text not null default '', -- Bitbucket account id, '' where nobody is named
  system_token            bytea,               -- sealed; null while none is held
  system_token_expires_at timestamptz,
  installed_at            timestamptz not null default now(),
  confirmed_by            uuid,                -- person; null where nothing had to be confirmed
  confirmed_at            timestamptz,
  uninstalled_at          timestamptz,
  seen_at                 timestamptz not null, -- when the newest invocation was issued, to the minute
  primary key (workspace_id, id),
  unique (workspace_id, installation_id)
);
-- A workspace has at most one installation that is not over.
create unique index on signedapproval_installations (workspace_id) where state <> 'UNINSTALLED';

-- The app is told of events by itself: a repository needs no webhook.
alter table signedapproval_bitbucket_repo_configs alter column hook_id drop not null;

-- What the merge check was asked and what it answered.
create table signedapproval_merge_checks (
  workspace_id       uuid not null,
  id                 uuid not null default gen_random_uuid(),
  repository_id      uuid not null,
  number             bigint not null,
  pull_request_id    uuid,                     -- null: the gate does not know the pull request
  trigger            text not null check (trigger in ('ON_MERGE', 'PRE_MERGE')),
  head_commit        text not null default '', -- '' where it could not be read
  destination_branch text not null default '',
  account_id         text not null default '', -- who asked, '' where nobody is named
  asker_salt         bytea,                    -- opens the leaf's commitment to account_id; null without a leaf or an account
  request_id         uuid,                     -- the request that was judged; null where there was none
  success            boolean not null,
  code               text not null,            -- why, stable; see gate
  sentence           text not null,
  asked_at           timestamptz not null default now(),
  primary key (workspace_id, id)
);
create index on signedapproval_merge_checks (repository_id, workspace_id, asked_at desc, id desc);
create index on signedapproval_merge_checks (repository_id, number, workspace_id, asked_at desc, id desc);

-- Merges that were seen in gated branches: approved ones and violations. A pull request that was
-- opened and merged between two looks has no row of its own.
create table signedapproval_merges_seen (
  workspace_id       uuid not null,
  repository_id      uuid not null,
  number             bigint not null,
  pull_request_id    uuid,                     -- null: it was never seen open
  destination_branch text not null,
  kind               text not null check (kind in ('APPROVED', 'OVERRIDE', 'VIOLATION')),
  head_commit        text not null default '', -- '' where it was never seen open
  landed_commit      text not null default '',
  asked              boolean not null,         -- the on-merge check was asked about that head
  checked            boolean not null,         -- and its last word was yes
  by_gate            boolean not null,         -- the gate itself merged that head: it tells nothing of the check
  sentence           text not null,
  seen_at            timestamptz not null default now()
);
create index on signedapproval_merges_seen (repository_id, workspace_id, seen_at desc);
create index on signedapproval_merges_seen (workspace_id, repository_id, seen_at desc, number desc) where kind = 'VIOLATION';
create index on signedapproval_merges_seen (repository_id, workspace_id, destination_branch, asked, checked, by_gate, seen_at desc);
alter table signedapproval_merges_seen add primary key (workspace_id, repository_id, number); -- here: see 0001
create index on signedapproval_merges_seen (workspace_id, landed_commit) where landed_commit <> '';

-- What the doctor found out last about each rule's branch patterns.
create table signedapproval_enforcements (
  workspace_id  uuid not null,
  repository_id uuid not null,
  pattern       text not null,
  state         text not null check (state in ('ENFORCED', 'WARNS_ONLY', 'OPEN', 'UNKNOWN')),
  reasons       jsonb not null,                -- [{code, sentence, fix, steps}]
  held_at       timestamptz,                   -- when a "no" of the on-merge check was last seen to hold; null: never
  checked_at    timestamptz not null default now(),
  changed_at    timestamptz not null default now(),
  primary key (workspace_id, repository_id, pattern)
);

-- +goose StatementBegin
do $$
declare t text;
begin
  foreach t in array array['signedapproval_installations', 'signedapproval_merge_checks', 'signedapproval_merges_seen',
      'signedapproval_enforcements'] loop
    execute format('alter table %I enable row level security', t);
    execute format('alter table %I force row level security', t);
    execute format('create policy tenant on %I to signedapproval_app
      using (workspace_id = (select current_setting(''app.workspace''))::uuid)
      with check (workspace_id = (select current_setting(''app.workspace''))::uuid)', t);
    execute format('grant select, insert, update, delete on %I to signedapproval_app', t);
  end loop;
end $$;
-- +goose StatementEnd
revoke update, delete on signedapproval_merge_checks from signedapproval_app;

-- A ticket leads from the panel to the sign page. It is found by its hash before a workspace is named.
create table signedapproval_tickets (
  token_hash   bytea primary key,              -- SHA-256; consumed by the statement that reads it
  person_id    uuid not null references signedapproval_people,
  workspace_id uuid not null,
  request_id   uuid not null,
  head_commit  text not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null
);
create index on signedapproval_tickets (expires_at);
grant select, insert, update, delete on signedapproval_tickets to signedapproval_app;

-- The rotation of keys has to find the tokens of installations too.
create policy reseal on signedapproval_installations for select to current_user using (true);
-- +goose StatementBegin
create or replace function signedapproval_sealed_workspaces()
returns setof uuid
language sql stable security definer
set search_path = pg_catalog, public, pg_temp as $$
  select c.workspace_id from signedapproval_bitbucket_connections c
  where c.access_token is not null or c.refresh_token is not null or c.previous_refresh_token is not null
  union
  select i.workspace_id from signedapproval_installations i where i.system_token is not null
  order by 1
$$;
-- +goose StatementEnd

-- A stream token lets a panel in Bitbucket's frame subscribe, and nothing else. It is found by its hash.
create table signedapproval_stream_tokens (
  token_hash   bytea primary key,              -- SHA-256
  person_id    uuid not null references signedapproval_people,
  workspace_id uuid not null,
  created_at   timestamptz not null default now(),
  expires_at   timestamptz not null
);
create index on signedapproval_stream_tokens (expires_at);
grant select, insert, update, delete on signedapproval_stream_tokens to signedapproval_app;

-- Whom a browser that redeemed a ticket must sign in as.
alter table signedapproval_sessions add column expects_person uuid references signedapproval_people;
