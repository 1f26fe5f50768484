-- +goose Up
drop type mood;
