-- +goose Up
set constraints all deferred;
