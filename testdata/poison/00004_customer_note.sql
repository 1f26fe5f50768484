-- +goose Up
alter table customers add column note text;

-- +goose Down
alter table customers drop column note;
