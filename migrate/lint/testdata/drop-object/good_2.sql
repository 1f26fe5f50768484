-- +goose Up
create or replace function shout(t text) returns text language sql return upper(t);
