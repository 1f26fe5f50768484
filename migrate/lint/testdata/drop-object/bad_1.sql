-- +goose Up
drop function shout(text);
