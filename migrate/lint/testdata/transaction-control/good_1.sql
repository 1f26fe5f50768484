-- +goose Up
comment on table orders is 'begin; commit;';
