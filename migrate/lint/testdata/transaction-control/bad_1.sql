-- +goose Up
begin;
