-- +goose Up
discard all;
