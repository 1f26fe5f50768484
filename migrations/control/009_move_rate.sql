-- How fast a move may copy.

-- +goose Up

alter table landlord.moves
    add column max_rate bigint not null default 0 check (max_rate >= 0); -- bytes a second; 0: as many as can be
