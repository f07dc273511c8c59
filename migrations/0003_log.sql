-- +goose Up

-- The Merkle tree over signedapproval_leaves (RFC 6962), of which leaves.hash is level 0: the hashes above it, each
-- written once, when its right-most leaf is taken into the tree. Tenantless like the leaves: there is one log.
create table signedapproval_log_hashes (
  level smallint not null check (level between 1 and 62),
  index bigint not null check (index >= 0),    -- of the node within its level
  hash  bytea not null check (octet_length(hash) = 32),
  primary key (level, index)
);

-- One row: how many leaves the tree has. Whoever lets it grow, or publishes it, holds this row; whoever appends a
-- leaf does not.
create table signedapproval_log_tree (
  singleton boolean primary key default true check (singleton),
  size      bigint not null
);
insert into signedapproval_log_tree (size) values (0);

-- Every checkpoint that was published: one for each size, each size larger than those before.
create table signedapproval_log_checkpoints (
  size         bigint primary key check (size >= 0),
  root         bytea not null check (octet_length(root) = 32),
  note         bytea not null,                 -- the signed note, as served
  published_at timestamptz not null default clock_timestamp() -- in the order of the sizes
);

-- What witnesses cosigned: some of it is there when a checkpoint is put on record, some comes later.
create table signedapproval_log_cosignatures (
  size         bigint not null references signedapproval_log_checkpoints,
  witness      text not null check (length(witness) between 1 and 300), -- the name and the hash of its key
  line         bytea not null,                 -- of the signed note, with its newline
  cosigned_at  timestamptz not null default clock_timestamp(), -- put on record; when it was signed is in the line
  primary key (size, witness)
);

grant select, update on signedapproval_log_tree to signedapproval_app;
-- Append-only, as the leaves are.
grant select, insert on signedapproval_log_hashes, signedapproval_log_checkpoints, signedapproval_log_cosignatures to signedapproval_app;
