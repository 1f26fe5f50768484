-- +goose Up
create domain label as text;
