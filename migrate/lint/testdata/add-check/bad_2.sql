-- +goose Up
alter table only orders add constraint c check (total > 1 and note <> 'not valid');
