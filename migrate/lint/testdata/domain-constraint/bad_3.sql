-- +goose Up
alter domain positive set not null;
